"""The Python module, on a volume that is served and mounted (VOL, MNT). Installed where PYTHONPATH says."""
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy
import pmfs

vol, mnt = os.environ["VOL"], os.environ["MNT"]
PAGE = 4096


def raises(kind, call, err=None):
    try:
        call()
    except kind as e:
        assert err is None or e.errno == err, (e, err)
        return str(e)
    raise AssertionError(f"{kind.__name__} was not raised")


def mapped():
    """How many mappings this process has, says the manager."""
    out = subprocess.run([os.environ["BIN"] + "/pmfs", "clients", vol, "--json"], check=True, capture_output=True).stdout
    return sum(c["mappings"] for c in json.loads(out)["clients"] if c["pid"] == os.getpid())


def files_and_errors():
    with pmfs.open(vol + ":/f", "w+") as f:
        assert f.write(b"hello", 3) == 5 and f.read(100, 0) == b"\0\0\0hello"
        into = bytearray(4)
        assert f.readinto(into, 4) == 4 and into == b"ello"
        assert f.append(memoryview(b" world")) == 6 and f.stat().st_size == 14
        assert f.write(numpy.arange(4, dtype="int16"), PAGE) == 8 and f.read(8, PAGE) == b"\0\0\1\0\2\0\3\0"
        f.truncate(3 * PAGE)
        f.punch(0, PAGE)
        assert f.read(PAGE, 0) == bytes(PAGE)
        f.allocate(0, PAGE)
        assert f.stat().st_blocks >= 8
        raises(OSError, lambda: f.write(b"x", -1), errno.EINVAL)
        raises(OSError, lambda: f.punch(0, 0), errno.EINVAL)
        raises(TypeError, lambda: f.readinto(b"fixed", 0))
        raises(ValueError, lambda: f.write(numpy.zeros((8, 8))[:, 1], 0))
        f.fsync()
    assert f.closed
    raises(ValueError, lambda: f.read(1, 0))
    assert "/none" in raises(FileNotFoundError, lambda: pmfs.open(vol + ":/none"))
    raises(FileExistsError, lambda: pmfs.open(vol + ":/f", "x+"))
    raises(ValueError, lambda: pmfs.open(vol + ":/f", "rb"))
    raises(OSError, lambda: pmfs.open("/etc/passwd"), errno.ENOTTY)
    raises(OSError, lambda: pmfs.Volume("/dev"))
    with pmfs.Volume(vol) as v:
        v.mkdir("/d")
        v.rename("/f", "/d/g")
        assert v.stat("/d/g").st_size == 3 * PAGE
        raises(OSError, lambda: v.rmdir("/d"), errno.ENOTEMPTY)
        v.unlink("/d/g")
        v.rmdir("/d")
        raises(NotADirectoryError, lambda: v.open("/m/x", "w+")) if v.open("/m", "w+") else None
        v.unlink("/m")
    with pmfs.open(vol + ":/ro", "w+") as f:
        f.truncate(PAGE)
    with pmfs.open(vol + ":/ro") as f:
        raises(OSError, lambda: f.write(b"x", 0), errno.EBADF)
        view = f.map()
        assert view.readonly and view[0] == 0
        raises(OSError, lambda: f.map(readonly=False), errno.EACCES)
        raises(OSError, lambda: f.map(offset=1, length=1), errno.EINVAL)
        raises(TypeError, lambda: pmfs.persist(view))


def lifetimes():
    assert mapped() == 0, mapped()
    with pmfs.open(vol + ":/l", "w+") as f:
        f.truncate(8 * PAGE)
        with f.map() as view:
            assert mapped() == 1  # or this test sees nothing
            view[5] = 7
            array = numpy.frombuffer(view, dtype="uint8")
        raises(ValueError, lambda: view[5])  # released, but the array has the memory still
        assert array[5] == 7 and mapped() == 1
        array[5] = 8
        del array
        assert mapped() == 0, mapped()
        piece = f.map()[PAGE:2 * PAGE]  # the whole view is gone, the piece holds the mapping
        array = numpy.frombuffer(f.map(), dtype="int64")[3:5]
    # So they outlive file and volume; and each other.
    piece[0] = 9
    array[0] = -1
    assert mapped() == 2
    del piece
    assert mapped() == 1
    array[1] = 2
    assert list(array) == [-1, 2]
    del array
    assert mapped() == 0, mapped()


def both_ways():
    with open(mnt + "/b", "wb") as kernel:
        kernel.truncate(PAGE)
    with pmfs.open(mnt + "/b", "r+") as f, f.map() as view, open(mnt + "/b", "r+b", buffering=0) as kernel:
        view[:3] = b"abc"
        assert kernel.read(3) == b"abc"
        kernel.write(b"def")
        assert bytes(view[3:6]) == b"def"
        before = f.stat().st_mtime_ns
        time.sleep(0.01)
        view[0] = 0
        pmfs.persist(view)
        pmfs.sync(view[1:2])
        assert f.stat().st_mtime_ns > before


def two_processes():
    n = 1 << 18
    f = pmfs.open(vol + ":/t", "w+")
    f.truncate(8 * n)
    a = numpy.frombuffer(f.map(), dtype="int64")
    other = subprocess.Popen([sys.executable, __file__, "other"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for k in range(0, n - 1, 4099):
        a[k] = k
        print(k, file=other.stdin, flush=True)
        assert int(other.stdout.readline()) == k
        assert a[k + 1] == -k
    a[:] = numpy.arange(n)
    print(-1, file=other.stdin, flush=True)
    assert int(other.stdout.readline()) == n * (n - 1) // 2
    assert numpy.frombuffer(f.read(80, 800), dtype="int64").tolist() == list(range(100, 110))
    f.punch(0, 8 * n)
    print(-1, file=other.stdin, flush=True)
    assert int(other.stdout.readline()) == 0 and not a.any()
    other.stdin.close()
    assert other.wait(30) == 0
    pid = os.fork()
    if pid == 0:
        a[17] = 42
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0 and a[17] == 42


def other():
    a = numpy.frombuffer(pmfs.open(vol + ":/t", "r+").map(), dtype="int64")
    for line in sys.stdin:
        k = int(line)
        if k < 0:
            print(int(a.sum()), flush=True)
            continue
        assert a[k] == k and a[k + 1] == 0
        a[k + 1] = -k
        print(k, flush=True)


def truncated():
    """As of any mapped file: what is cut off is SIGBUS, the rest is as it was; the file grows, and there are zeros."""
    f = pmfs.open(vol + ":/cut", "w+")
    f.truncate(4 * PAGE)
    a = numpy.frombuffer(f.map(), dtype="uint8")
    a[:] = 1
    f.truncate(PAGE + 10)
    assert a[PAGE + 9] == 1 and a[PAGE + 10] == 0
    for touch, signal_number in (("load", signal.SIGBUS), ("store", signal.SIGBUS), ("inside", 0)):
        assert subprocess.run([sys.executable, __file__, touch], check=False).returncode == -signal_number, touch
    f.truncate(4 * PAGE)
    assert a[PAGE + 9] == 1 and not a[PAGE + 10:].any()
    a[3 * PAGE] = 5
    assert f.read(1, 3 * PAGE) == b"\5"


def touch(how):
    f = pmfs.open(vol + ":/cut", "r+")
    a = numpy.frombuffer(f.map(4 * PAGE), dtype="uint8")
    if how == "load":
        int(a[2 * PAGE])
    if how == "store":
        a[2 * PAGE] = 1
    assert a[PAGE] == 1


def seen_by_top():
    """What a mapped file is put through, by its name, in `pmfs top`."""
    f = pmfs.open(vol + ":/watched", "w+")
    f.truncate(16 * PAGE)
    view = f.map()
    top = subprocess.Popen([os.environ["BIN"] + "/pmfs", "top", vol, "--every", "0.5", "--count", "1", "--json"],
                           stdout=subprocess.PIPE)
    while top.poll() is None:
        view[5 * PAGE] = 1
        f.punch(5 * PAGE, PAGE)
    rows = json.loads(top.stdout.read())["files"]
    assert rows and rows[0]["path"] == "/watched" and len(rows) <= 12, rows
    assert all(rows[0][k] > 0 for k in ("faults_per_s", "invalidates_per_s", "zapped_pages_per_s")), rows


def threads():
    """A thread that waits in the manager, or in a fault, does not hold up the others."""
    f = pmfs.open(vol + ":/threads", "w+")
    f.truncate(64 * PAGE)
    view = f.map()
    errors = []

    def work(first):
        try:
            for turn in range(200):
                for page in range(first, 64, 4):
                    view[page * PAGE] = turn + 1
                    assert f.read(1, page * PAGE) == bytes([turn + 1])
                    f.punch(page * PAGE, PAGE)
        except BaseException as e:  # shown by the main thread
            errors.append(e)
    all_of_them = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in all_of_them:
        t.start()
    for t in all_of_them:
        t.join()
    assert not errors, errors
    assert not any(view)


if len(sys.argv) > 1:
    if sys.argv[1] == "other":
        other()
    else:
        touch(sys.argv[1])
    sys.exit(0)
for test in (files_and_errors, lifetimes, both_ways, two_processes, truncated, seen_by_top, threads):
    print("-", test.__name__, flush=True)
    test()
