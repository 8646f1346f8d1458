"""PMFS_IOC_FILE on a mount: names the file natively; anything that is no regular file of a volume is refused."""
import errno, fcntl, os, struct

SIZE = 16 + 4096
PMFS_IOC_FILE = 2 << 30 | SIZE << 16 | ord("P") << 8 | 0x46


def ask(fd, cmd=PMFS_IOC_FILE):
    buf = bytearray(SIZE)
    fcntl.ioctl(fd, cmd, buf)
    ino, generation = struct.unpack_from("QQ", buf)
    return ino, generation, buf[16:].split(b"\0")[0].decode()


def refused(fd, cmd=PMFS_IOC_FILE):
    try:
        ask(fd, cmd)
    except OSError as e:
        return e.errno
    return 0


mnt, vol, work = (os.environ[k] for k in ("MNT", "VOL", "WORK"))
fd = os.open(f"{mnt}/f", os.O_RDWR | os.O_CREAT)
ino, generation, volume = ask(fd)
assert (ino, volume) == (os.fstat(fd).st_ino, vol), (ino, volume)
assert ask(os.open(f"{mnt}/f", os.O_RDONLY)) == (ino, generation, volume)
os.unlink(f"{mnt}/f")
assert ask(fd) == (ino, generation, volume), "an unlinked file is the same"
assert refused(os.open(mnt, os.O_RDONLY)) == errno.EISDIR
assert refused(fd, PMFS_IOC_FILE + 1) == errno.ENOTTY
assert refused(os.open(f"{work}/elsewhere", os.O_RDWR | os.O_CREAT)) == errno.ENOTTY
os.close(fd)
again = os.open(f"{mnt}/f", os.O_RDWR | os.O_CREAT)
assert ask(again)[:2] != (ino, generation), "another file has the same name"
