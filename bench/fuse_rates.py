#!/usr/bin/env python3
"""Metadata rates of a mounted volume beside libfuse's own passthrough_ll, which is built from the examples that Debian's
libfuse3-dev brings and serves a directory of the tmpfs that the volume is on. In one run, in turns: medians.

  bench/fuse_rates.py BIN_DIR [--rounds 7] [--count 2000] [--poll] [--realtime]         (as root; BIN_DIR has pmfs)

--poll: idle processors poll throughout, whoever is measured (pmfs mount has them do so in its own trains of requests only).
--realtime: everything here runs before whatever else the machine does (SCHED_FIFO); without it, on a machine with other work,
the figures are those of its scheduler.

passthrough_ll lets the kernel believe names and attributes for a second; with timeout=0 it answers every question itself,
as a mount must that others change files beside.
"""
import argparse, os, shutil, statistics, subprocess, sys, tempfile, time

EXAMPLES = "/usr/share/doc/libfuse3-dev/examples"


def run(*command, **kw):
    subprocess.run([str(c) for c in command], check=True, **kw)


def rate(count, f):
    begin = time.perf_counter()
    for i in range(count):
        f(i)
    return count / (time.perf_counter() - begin)


def measure(directory, count):
    def create(_):
        os.close(os.open("new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        os.unlink("new")

    os.chdir(directory)
    os.close(os.open("a", os.O_CREAT | os.O_RDWR, 0o644))
    f = os.open("a", os.O_RDWR)
    names = ["a", "b"]
    block = b"x" * 4096
    result = {
        "create+close+unlink": rate(count, create),
        "rename": rate(count // 2 * 2, lambda i: os.rename(names[i % 2], names[1 - i % 2])),
        "stat": rate(count, lambda _: os.stat("a")),
        "fstat": rate(count, lambda _: os.fstat(f)),
        "pwrite 4 KiB": rate(count, lambda i: os.pwrite(f, block, i % 64 * 4096)),
        "pread 4 KiB": rate(count, lambda i: os.pread(f, 4096, i % 64 * 4096)),
    }
    os.close(f)
    os.unlink("a")
    os.chdir("/")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin_dir")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--poll", action="store_true")
    parser.add_argument("--realtime", action="store_true")
    args = parser.parse_args()
    if args.poll:
        latency = open("/dev/cpu_dma_latency", "wb", buffering=0)  # the constraint is there while this is open
        latency.write((0).to_bytes(4, sys.byteorder))
    if args.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))  # what is started here inherits it
    pmfs = os.path.join(os.path.abspath(args.bin_dir), "pmfs")
    source = os.path.join(EXAMPLES, "passthrough_ll.c")
    if not os.path.exists(source):
        sys.exit(f"{source}: is not there; libfuse3-dev brings it (a system that leaves documentation out may not)")
    work = tempfile.mkdtemp(prefix="pmfs-fuse-rates-", dir="/dev/shm")
    mounts = {}
    try:
        passthrough = os.path.join(work, "passthrough_ll")
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], check=True, capture_output=True, text=True).stdout.split()
        run("gcc", "-O2", "-w", "-o", passthrough, source, "-I", EXAMPLES, *flags)
        run(pmfs, "mkfs", f"{work}/vol", "--size", "128M", stdout=subprocess.DEVNULL)
        for name, options in (("pmfs", None), ("passthrough_ll", ""), ("passthrough_ll, timeout=0", ",timeout=0")):
            mounts[name] = f"{work}/mnt{len(mounts)}"
            os.mkdir(mounts[name])
            if options is None:
                run(pmfs, "mount", f"{work}/vol", mounts[name])
            else:
                os.mkdir(mounts[name] + "-source")
                run(passthrough, "-o", f"source={mounts[name]}-source{options}", mounts[name])
        results = {name: [] for name in mounts}
        for _ in range(args.rounds):
            for name, directory in mounts.items():
                results[name].append(measure(directory, args.count))
        print(f"{'per second':22}" + "".join(f"{name:>28}" for name in mounts))
        for what in results["pmfs"][0]:
            medians = {name: statistics.median(r[what] for r in rounds) for name, rounds in results.items()}
            print(f"{what:22}" + "".join(f"{m:18,.0f} ({medians['pmfs'] / m:6.2f})" for m in medians.values()))
        print(f"in brackets: what pmfs does for each of these; medians of {args.rounds} rounds of {args.count}")
    finally:
        for directory in mounts.values():
            subprocess.run(["umount", "-l", directory], stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
