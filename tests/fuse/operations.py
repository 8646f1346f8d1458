#!/usr/bin/env python3
"""What system calls do on a mounted volume, as root: operations.py DIR fuse|tmpfs

With tmpfs the checks that are not about the mount run on a directory of the kernel's own, to see that they are right.
"""
import ctypes, errno, fcntl, mmap, os, signal, struct, subprocess, sys, time

here, fuse = sys.argv[1], sys.argv[2] == "fuse"
os.chdir(here)
libc = ctypes.CDLL(None, use_errno=True)
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
NOBODY = 65534
BOUND = 20  # seconds for what must not hang


def call(name, *args):
    r = getattr(libc, name)(*args)
    if r < 0:
        e = ctypes.get_errno()
        raise OSError(e, f"{name}: {os.strerror(e)}")
    return r


def fallocate(fd, mode, offset, length):
    call("fallocate", fd, mode, ctypes.c_long(offset), ctypes.c_long(length))


def refuses(err, f, *args, **kw):
    try:
        f(*args, **kw)
    except OSError as e:
        assert e.errno == err, f"{e}, not {errno.errorcode[err]}"
        return
    raise AssertionError(f"{f} was not refused with {errno.errorcode[err]}")


def as_nobody(f):
    """f() in a process of an unprivileged user."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            f()
            os._exit(0)
        except BaseException as e:
            print("as nobody:", repr(e), file=sys.stderr)
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def privileges():
    def fresh(mode):
        f = os.open("program", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.write(f, b"#!" + b"x" * 8190)
        os.chmod("program", mode)
        os.setxattr("program", "security.capability", CAPABILITY)
        os.setxattr("program", "user.kept", b"1")
        return f

    def left():
        assert "user.kept" in os.listxattr("program")
        return os.stat("program").st_mode & 0o7777, "security.capability" in os.listxattr("program")

    def opened(flags, f):
        fd = os.open("program", flags)
        f(fd)
        os.close(fd)

    ways = {
        "write": lambda: opened(os.O_WRONLY, lambda fd: os.write(fd, b"y")),
        "append": lambda: opened(os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b"y")),
        "truncate": lambda: os.truncate("program", 5),
        "O_TRUNC": lambda: opened(os.O_WRONLY | os.O_TRUNC, lambda fd: None),
        "punch": lambda: opened(os.O_WRONLY, lambda fd: fallocate(fd, 3, 0, 4096)),
        "preallocate": lambda: opened(os.O_WRONLY, lambda fd: fallocate(fd, 0, 0, 65536)),
        "copy_file_range": lambda: opened(os.O_RDWR, lambda fd: os.copy_file_range(fd, fd, 10, 0, 4096)),
    }
    for way, f in ways.items():
        os.close(fresh(0o6777))
        as_nobody(f)
        assert left() == (0o777, False), f"{way} left {left()}"
        os.close(fresh(0o6777))
        f()  # root may keep the bits, not the capabilities
        assert left() == (0o6777, False), f"{way} by root left {left()}"
    os.close(fresh(0o6777))
    os.chown("program", 1, 1)
    assert left() == (0o777, False), f"chown left {left()}"
    os.close(fresh(0o2767))
    as_nobody(lambda: os.truncate("program", 1))
    assert left()[0] & 0o0767 == 0o767
    os.unlink("program")


def appends():
    """Writers that append at once neither overwrite nor tear each other."""
    n, size, writers = 100, 3000, 4
    open("log", "w").close()
    pids = []
    for w in range(writers):
        pid = os.fork()
        if pid == 0:
            f = os.open("log", os.O_WRONLY | os.O_APPEND)
            for i in range(n):
                if os.write(f, bytes([65 + w]) * size) != size:
                    os._exit(1)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    data = open("log", "rb").read()
    assert len(data) == n * size * writers
    for i in range(0, len(data), size):
        assert len(set(data[i : i + size])) == 1, f"torn at {i}"
    f = os.open("log", os.O_RDWR)
    fcntl.fcntl(f, fcntl.F_SETFL, os.O_APPEND)  # said later
    os.lseek(f, 0, 0)
    os.write(f, b"end")
    assert os.fstat(f).st_size == len(data) + 3
    os.close(f)
    os.unlink("log")


def allocation():
    f = os.open("a", os.O_RDWR | os.O_CREAT)
    block = os.statvfs(".").f_frsize
    os.pwrite(f, b"x" * block * 8, 0)
    fallocate(f, 1, 0, block * 16)
    assert os.fstat(f).st_size == block * 8
    fallocate(f, 0, 0, block * 12)
    assert os.fstat(f).st_size == block * 12 and os.pread(f, block, block * 8) == bytes(block)
    fallocate(f, 3, block, block * 2 + 100)
    assert os.pread(f, block * 4, 0) == b"x" * block + bytes(block * 2 + 100) + b"x" * (block - 100)
    refuses(errno.EOPNOTSUPP, fallocate, f, 2, 0, block)  # a punch keeps the size
    if fuse:
        fallocate(f, 0x10, block * 4 + 10, block * 20)
        assert os.fstat(f).st_size == block * 24 + 10 and os.pread(f, block * 2, block * 4) == b"x" * 10 + bytes(block * 2 - 10)
        fallocate(f, 0x11, block * 24, block * 4)
        assert os.fstat(f).st_size == block * 24 + 10
    for mode in (8, 0x20):  # collapse, insert: FUSE has no such message; native clients have the calls
        refuses(errno.EOPNOTSUPP, fallocate, f, mode, block, block)
    refuses(errno.EINVAL, fallocate, f, 0, 0, 0)
    os.ftruncate(f, 0)
    os.pwrite(f, b"d", block * 10)
    assert os.lseek(f, 0, os.SEEK_DATA) == block * 10
    assert os.lseek(f, block * 10, os.SEEK_HOLE) in (block * 10 + 1, block * 11)
    refuses(errno.ENXIO, os.lseek, f, block * 20, os.SEEK_DATA)
    g = os.open("b", os.O_RDWR | os.O_CREAT)
    assert os.copy_file_range(f, g, block * 20, 0, 7) == block * 10 + 1
    assert os.pread(g, block * 20, 0) == bytes(7 + block * 10) + b"d"
    refuses(errno.EINVAL, os.copy_file_range, f, f, 4096, 0, 100)
    os.close(f), os.close(g), os.unlink("a"), os.unlink("b")


def tmpfile():
    """libfuse before 3.15 has no message for it: who asks gets EOPNOTSUPP, and takes a name and unlinks it."""
    if fuse:
        refuses(errno.EOPNOTSUPP, os.open, ".", os.O_TMPFILE | os.O_RDWR, 0o600)


def mapping():
    f = os.open("m", os.O_RDWR | os.O_CREAT)
    os.pwrite(f, b"first" + bytes(8187), 0)
    if fuse:
        refuses(errno.ENODEV, mmap.mmap, f, 8192)
        refuses(errno.ENODEV, mmap.mmap, f, 8192, mmap.MAP_SHARED, mmap.PROT_READ)
    with mmap.mmap(f, 8192, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as m:
        assert m[:5] == b"first"
        m[:5] = b"mine!"
        assert os.pread(f, 5, 0) == b"first"
    os.pwrite(f, b"other", 0)
    with mmap.mmap(f, 8192, mmap.MAP_PRIVATE, mmap.PROT_READ) as m:
        assert m[:5] == b"other"
    os.close(f), os.unlink("m")
    subprocess.run(["cp", "/bin/true", "./true"], check=True)
    subprocess.run(["./true"], check=True)  # exec maps it privately
    os.unlink("true")


def interrupted(wait):
    """wait() blocks; a signal ends it with EINTR."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGUSR1, lambda *_: (_ for _ in ()).throw(InterruptedError()))
        os.write(w, b"1")
        try:
            wait()
            os._exit(2)
        except InterruptedError:
            os._exit(0)
    os.read(r, 1)
    state, end = "", time.monotonic() + BOUND
    while state != "S":  # asleep: in the lock, as there is nothing else left to wait in
        assert time.monotonic() < end
        state = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]
        if os.waitpid(pid, os.WNOHANG)[0]:
            raise AssertionError("the lock was granted")
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        assert time.monotonic() < end, "can't be interrupted"
        os.kill(pid, signal.SIGUSR1)
        time.sleep(0.01)
    os.close(r), os.close(w)


def locks():
    f = os.open("lock", os.O_RDWR | os.O_CREAT)
    fcntl.lockf(f, fcntl.LOCK_EX, 100, 50)
    ask = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)

    def other(g=None):
        g = os.open("lock", os.O_RDWR)
        kind, _, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(g, fcntl.F_GETLK, ask))
        assert (kind, start, length, pid) == (fcntl.F_WRLCK, 50, 100, os.getppid()), (kind, start, length, pid)
        fcntl.lockf(g, fcntl.LOCK_EX, 50, 0)  # beside it
        refuses(errno.EAGAIN, fcntl.lockf, g, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 60)

    pid = os.fork()
    if pid == 0:
        try:
            other()
            os._exit(0)
        except BaseException as e:
            print(repr(e), file=sys.stderr)
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    interrupted(lambda: fcntl.lockf(f, fcntl.LOCK_EX))  # of another process: the same descriptor will do
    g = os.open("lock", os.O_RDWR)
    fcntl.flock(f, fcntl.LOCK_EX)
    refuses(errno.EWOULDBLOCK, fcntl.flock, g, fcntl.LOCK_SH | fcntl.LOCK_NB)
    interrupted(lambda: fcntl.flock(g, fcntl.LOCK_EX))
    os.close(f)
    fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with its descriptor
    OFD_SETLK, OFD_SETLKW = 37, 38
    fcntl.fcntl(g, OFD_SETLK, ask)
    h = os.open("lock", os.O_RDWR)
    refuses(errno.EAGAIN, fcntl.fcntl, h, OFD_SETLK, ask)
    interrupted(lambda: fcntl.fcntl(h, OFD_SETLKW, ask))
    os.close(g), os.close(h), os.unlink("lock")


def directories():
    os.mkdir("d")
    os.chown("d", 7, 8)
    os.chmod("d", 0o2777)
    for n in range(500):
        os.mkdir(f"d/n{n}") if n % 2 else os.symlink("x", f"d/n{n}")
    assert os.stat("d/n1").st_gid == 8 and os.stat("d/n1").st_mode & 0o2000, "a setgid directory hands its group on"
    with os.scandir("d") as all:  # d_type, without a stat
        assert {e.name: e.is_dir(follow_symlinks=False) for e in all} == {f"n{n}": n % 2 == 1 for n in range(500)}
    listing = subprocess.run(["ls", "-lU", "d"], capture_output=True, check=True).stdout
    assert len(listing.splitlines()) == 501
    call("renameat2", -100, b"d/n0", -100, b"d/n1", 2)  # exchange
    assert os.path.islink("d/n1") and os.path.isdir("d/n0")
    try:
        call("renameat2", -100, b"d/n0", -100, b"d/n3", 1)  # no replace
        raise AssertionError("replaced")
    except OSError as e:
        assert e.errno == errno.EEXIST
    subprocess.run(["rm", "-r", "d"], check=True)
    v = os.statvfs(".")
    assert v.f_namemax == 255 and 0 < v.f_bfree <= v.f_blocks and v.f_ffree > 0
    refuses(errno.ENAMETOOLONG, os.mkdir, "x" * 256)


for check in (privileges, appends, allocation, tmpfile, mapping, locks, directories):
    check()
    print("ok", check.__name__, flush=True)
assert os.listdir(".") == [], os.listdir(".")
