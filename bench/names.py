#!/usr/bin/env python3
"""Names per second through libpmfs beside ext4 (a loop device over the same tmpfs) and tmpfs, in one run, in turns: a volume, its
manager and the ext4 are made for it.

  bench/names.py BIN_DIR [--rounds 11] [--count 2000] [--no-realtime]              (as root: it mounts)
"""
import argparse, os, shutil, subprocess, sys, tempfile


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin_dir")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--no-realtime", action="store_true")
    args = parser.parse_args()
    if shutil.which("mkfs.ext4") is None:
        sys.exit("not here: mkfs.ext4; Debian: apt-get install e2fsprogs")
    if os.geteuid() != 0:
        sys.exit("needs root: it mounts")
    bin_dir = os.path.abspath(args.bin_dir)
    work = tempfile.mkdtemp(prefix="pmfs-names-", dir="/dev/shm")
    vol, ext4, tmp = (os.path.join(work, n) for n in ("vol", "ext4", "tmp"))
    manager = None
    mounted = False
    if not args.no_realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))  # what is started here inherits it
    try:
        os.mkdir(ext4)
        os.mkdir(tmp)
        with open(f"{work}/ext4.img", "wb") as image:
            image.truncate(512 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", f"{work}/ext4.img"], check=True)
        subprocess.run(["mount", "-o", "loop", f"{work}/ext4.img", ext4], check=True)
        mounted = True
        subprocess.run([f"{bin_dir}/pmfs", "mkfs", vol, "--size", "256M"], check=True, stdout=subprocess.DEVNULL)
        ready, ours = os.pipe()
        log = open(f"{work}/log", "w+")
        manager = subprocess.Popen([f"{bin_dir}/pmfs", "serve", vol, "--ready-fd", str(ours)], pass_fds=[ours], stderr=log)
        os.close(ours)
        if os.read(ready, 1) == b"":
            sys.exit("no manager: " + open(log.name).read())
        subprocess.run([f"{bin_dir}/pmfs-bench-names", "--volume", vol, "--dir", f"ext4={ext4}", "--dir", f"tmpfs={tmp}",
                        "--rounds", str(args.rounds), "--count", str(args.count)], check=True)
    except subprocess.CalledProcessError as e:
        sys.exit(f"{e.cmd[0]}: exit {e.returncode}")
    finally:
        if manager is not None:
            manager.terminate()
            manager.wait()
        if mounted:
            subprocess.run(["umount", ext4])
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
