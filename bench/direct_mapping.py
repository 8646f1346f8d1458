#!/usr/bin/env python3
"""Direct mapping under the preload shim beside libpmfs's own: time per first touch and per access once touched, and how many
faults the manager saw; in turns, in one run: medians. tmpfs for comparison.

  bench/direct_mapping.py BIN_DIR [--rounds 7] [--mib 64]               (as root; real-time priority)
"""
import argparse, json, os, shutil, statistics, subprocess, sys, tempfile, time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin_dir")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=64)
    args = parser.parse_args()
    bin_dir = os.path.abspath(args.bin_dir)
    pmfs, program = f"{bin_dir}/pmfs", f"{bin_dir}/pmfs-bench-direct-mapping"
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))  # what is started here inherits it
    work = tempfile.mkdtemp(prefix="pmfs-direct-mapping-", dir="/dev/shm")
    vol, mnt, tmp = (os.path.join(work, n) for n in ("vol", "mnt", "tmp"))

    def counters():
        out = subprocess.run([pmfs, "counters", vol], check=True, capture_output=True, text=True).stdout
        return {k: int(v) for k, v in (line.split() for line in out.splitlines())}

    ways = {"libpmfs": [program, "native", vol, "/f"], "shim": [pmfs, "run", "--", program, "mmap", "-", f"{mnt}/f"],
            "tmpfs": [program, "mmap", "-", f"{tmp}/f"]}
    figures = {w: {"aligned": [], "first touch, ns/page": [], "faults": [], "pages installed": [], "steady, ns/access": []} for w in ways}
    os.mkdir(mnt)
    os.mkdir(tmp)
    try:
        subprocess.run([pmfs, "mkfs", vol, "--size", f"{args.mib * 2 + 32}M"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([pmfs, "mount", vol, mnt], check=True)
        for directory in (mnt, tmp):
            with open(f"{directory}/f", "wb") as f:
                for _ in range(args.mib):
                    f.write(b"x" * (1 << 20))
        for _ in range(args.rounds):
            for way, command in ways.items():
                p = subprocess.Popen([*command, str(args.mib)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

                def answer():
                    word, value = p.stdout.readline().split()
                    return float(value)

                f = figures[way]
                f["aligned"].append(answer())
                before = counters()
                p.stdin.write("go\n")
                p.stdin.flush()
                f["first touch, ns/page"].append(answer())
                after = counters()
                f["faults"].append(after["faults"] - before["faults"])
                f["pages installed"].append(after["installs_pages"] - before["installs_pages"])
                p.stdin.write("go\n")
                p.stdin.flush()
                f["steady, ns/access"].append(answer())
                if p.wait() != 0:
                    sys.exit(f"{command}: failed")
        print(f"{'':24}" + "".join(f"{w:>14}" for w in ways) + f"{'shim/libpmfs':>14}")
        for what in figures["libpmfs"]:
            m = {w: statistics.median(figures[w][what]) for w in ways}
            ratio = m["shim"] / m["libpmfs"] if m["libpmfs"] else 0
            print(f"{what:24}" + "".join(f"{v:14,.2f}" for v in m.values()) + f"{ratio:14.3f}")
        print(f"medians of {args.rounds} rounds, a file of {args.mib} MiB, its blocks there before")
    finally:
        subprocess.run([pmfs, "umount", mnt], stderr=subprocess.DEVNULL)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
