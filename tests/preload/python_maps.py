"""Python's mmap and numpy.memmap in two processes at once, each seeing the other's stores."""
import mmap, os, subprocess, sys
import numpy

mnt, n = os.environ["MNT"], 1 << 20


def child():
    m = mmap.mmap(os.open(f"{mnt}/m", os.O_RDWR), 4 * n)
    a = numpy.memmap(f"{mnt}/a", dtype="int64", mode="r+", shape=(n,))
    for line in sys.stdin:
        k = int(line)
        assert m[k] == k % 251, (m[k], k)
        m[k] = (k + 1) % 251
        assert a[k] == k and a[k + 1] == 0
        a[k + 1] = -k
        print(k, flush=True)


if len(sys.argv) > 1:
    child()
    sys.exit(0)

fd = os.open(f"{mnt}/m", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 4 * n)
m = mmap.mmap(fd, 4 * n)
a = numpy.memmap(f"{mnt}/a", dtype="int64", mode="w+", shape=(n,))
other = subprocess.Popen([sys.executable, __file__, "child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
for k in range(0, n - 1, 10007):
    m[k] = k % 251
    a[k] = k
    print(k, file=other.stdin, flush=True)
    assert int(other.stdout.readline()) == k
    assert m[k] == (k + 1) % 251 and a[k + 1] == -k
    assert os.pread(fd, 1, k) == bytes([m[k]])
other.stdin.close()
assert other.wait() == 0
a[:] = numpy.arange(n)
a.flush()
m.flush()
copy = numpy.memmap(f"{mnt}/a", dtype="int64", mode="c", shape=(n,))
copy[5] = 99
assert a[5] == 5 and copy[6] == 6
assert int(numpy.fromfile(f"{mnt}/a", dtype="int64").sum()) == n * (n - 1) // 2
m.resize(8 * n)
m[8 * n - 1] = 3
assert os.fstat(fd).st_size == 8 * n and os.pread(fd, 1, 8 * n - 1) == b"\3"
pid = os.fork()
if pid == 0:
    m[17] = 42
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0 and m[17] == 42
m.close()
