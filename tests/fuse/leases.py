#!/usr/bin/env python3
"""What the kernel believes of a mounted volume is what is so: after each operation of the mount's own, and as soon as a
native client's call has returned.

  leases.py MOUNTPOINT PMFS VOLUME [--expect-stale]

--expect-stale: the manager lets clients in without waiting (pmfs serve --torture-lease): what is old must be found.
"""
import argparse, ctypes, os, subprocess, sys, threading, time

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_SYMLINK_NOFOLLOW, FORCE_SYNC, BASIC = -100, 0x100, 0x2000, 0x7FF


def statx(path, flags=0):
    """mode, links, ids, size, blocks, times: what a stat may come from memory for."""
    buffer = ctypes.create_string_buffer(256)
    if libc.statx(AT_FDCWD, os.fsencode(path), AT_SYMLINK_NOFOLLOW | flags, BASIC, buffer) != 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e), path)
    return buffer.raw[16:80] + buffer.raw[96:128]  # but for the birth time


def own_operations():
    wrong = []

    def agree(what, *paths):
        for path in paths:
            believed, fresh = statx(path), statx(path, FORCE_SYNC)
            if believed != fresh:
                wrong.append(f"{what}: {path}")

    def do(what, f, *paths):
        for path in paths:
            if os.path.lexists(path):
                statx(path)  # believed from now on
        f()
        agree(what, *(p for p in paths if os.path.lexists(p)))

    os.mkdir("own")
    os.chdir("own")
    fd = os.open("a", os.O_RDWR | os.O_CREAT, 0o644)
    big = b"x" * 10000
    do("write", lambda: os.pwrite(fd, big, 0), "a", ".")
    do("append", lambda: open("a", "ab").write(big), "a")
    do("read", lambda: os.pread(fd, 100, 0), "a")
    do("ftruncate", lambda: os.ftruncate(fd, 5000), "a")
    do("O_TRUNC", lambda: open("a", "wb").close(), "a")
    do("fallocate", lambda: os.posix_fallocate(fd, 0, 1 << 20), "a")
    do("punch", lambda: libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(65536)), "a")
    do("chmod", lambda: os.chmod("a", 0o600), "a")
    do("chown", lambda: os.chown("a", 1000, 1000), "a")
    do("utime", lambda: os.utime("a", (1, 2)), "a")
    do("setxattr", lambda: os.setxattr("a", "user.x", b"1"), "a")
    do("removexattr", lambda: os.removexattr("a", "user.x"), "a")
    do("link", lambda: os.link("a", "b"), "a", "b", ".")
    do("rename", lambda: os.rename("b", "c"), "a", "b", "c", ".")
    do("rename over", lambda: os.rename("c", "a2"), "a", "a2", ".")
    os.link("a", "d")
    do("unlink", lambda: os.unlink("d"), "a", ".")
    do("mkdir", lambda: os.mkdir("sub"), "sub", ".")
    do("create in", lambda: open("sub/x", "w").close(), "sub", ".")
    do("rename into", lambda: os.rename("sub/x", "y"), "sub", "y", ".")
    do("rmdir", lambda: os.rmdir("sub"), ".")
    do("symlink", lambda: os.symlink("y", "l"), "l", ".")
    target = os.open("copy", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, big, 0)
    do("copy_file_range", lambda: os.copy_file_range(fd, target, 10000, 0, 0), "copy", "a")

    # Who is not root takes the set-id bit away by writing; the mode that is believed must follow.
    os.chown("y", 0, 0)
    os.chmod("y", 0o6777)
    os.chmod(".", 0o777)

    def write_as_nobody():
        pid = os.fork()
        if pid == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            out = os.open("y", os.O_WRONLY)
            os.write(out, b"y")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0

    do("write takes the set-id bits", write_as_nobody, "y")
    assert os.stat("y").st_mode & 0o6000 == 0, oct(os.stat("y").st_mode)
    os.chdir("..")
    return wrong


def native_operations(pmfs, volume):
    """A thread of ours looks all the time, so that there is always an answer on its way. Before each client the mount has been
    alone for longer than it takes to be given leases (Leases::kQuietNs)."""
    alone = 1.2
    stale = []
    stop = threading.Event()

    def native(*words):
        subprocess.run([pmfs, *words], check=True, stdout=subprocess.DEVNULL, timeout=60)

    def look():
        while not stop.is_set():
            for path in ("size", "old", "new"):
                try:
                    os.stat(path)
                except FileNotFoundError:
                    pass

    open("size", "w").close()
    open("old", "w").close()
    fd = os.open("size", os.O_RDONLY)
    looker = threading.Thread(target=look)
    looker.start()
    try:
        names = ["old", "new"]
        for i in range(4):
            time.sleep(alone)
            for path in ("size", *names):
                try:
                    os.stat(path)
                except FileNotFoundError:
                    pass
            native("truncate", f"{volume}:/size", "--size", str(1000 + i))
            if os.stat("size").st_size != 1000 + i or os.fstat(fd).st_size != 1000 + i:
                stale.append(f"size {i}")
            time.sleep(alone)
            if not os.path.exists(names[i % 2]):
                stale.append(f"name {i} before it was moved")
            native("mv", f"{volume}:/{names[i % 2]}", f"{volume}:/{names[1 - i % 2]}")
            if os.path.exists(names[i % 2]) or not os.path.exists(names[1 - i % 2]):
                stale.append(f"name {i}")
    finally:
        stop.set()
        looker.join()
        os.close(fd)
    return stale


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mountpoint")
    parser.add_argument("pmfs")
    parser.add_argument("volume")
    parser.add_argument("--expect-stale", action="store_true")
    args = parser.parse_args()
    os.chdir(args.mountpoint)
    if not args.expect_stale:
        if wrong := own_operations():
            sys.exit("believed and not so, after: " + "; ".join(wrong))
    stale = native_operations(args.pmfs, args.volume)
    if args.expect_stale:
        if not stale:
            sys.exit("nobody waited for leases, and nothing old was found: the test sees nothing")
    elif stale:
        sys.exit("old: " + "; ".join(stale))


if __name__ == "__main__":
    main()
