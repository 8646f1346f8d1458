#!/usr/bin/env python3
"""Ordinary programs on tmpfs, on ext4 (a loop device over that tmpfs), through bindfs (over that tmpfs) and on a mounted
volume of that tmpfs, in turns, in one run: medians, and ratios to tmpfs.

  bench/file_systems.py BIN_DIR [--rounds 5] [--seconds 1] [--realtime] [--out DIR]
                                                                  (as root; BIN_DIR has pmfs and its lib beside it)

fio: 4 KiB, a file of 64 MiB, one job. Random reads and writes through the kernel; through a shared mapping with fio's mmap
engine, under the preload shim on pmfs. sqlite: each insert a transaction of its own. tar: a generated tree of 2,000 files is
unpacked and removed. --realtime: everything runs before whatever else the machine does (SCHED_FIFO).

Writes DIR/file-systems.json, .svg and .md, and the table into DIR/../benchmarks.md; --out is docs/benchmarks.
"""
import argparse, json, os, pathlib, platform, random, re, shutil, sqlite3, statistics, subprocess, sys, tarfile, tempfile, time

from report import bars, table

INSERTS, FILES = 500, 2000


def run(*command, **kw):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, **kw)


def timed(f):
    begin = time.perf_counter()
    f()
    return time.perf_counter() - begin


class Place:
    def __init__(self, name, directory, prefix=()):
        self.name, self.directory, self.prefix = name, directory, list(prefix)  # prefix: what maps files here runs under


def fio(place, seconds, engine, rw):
    out = run(*(place.prefix if engine == "mmap" else []), "fio", "--name=bench", f"--filename={place.directory}/bench.data", "--size=64m",
              "--bs=4k", f"--ioengine={engine}", f"--rw={rw}", "--time_based", f"--runtime={seconds}", "--norandommap",
              "--randrepeat=0", "--invalidate=0", "--fallocate=posix", "--output-format=json").stdout
    job = json.loads(out[out.index("{"):])["jobs"][0]
    return job["read" if "read" in rw else "write"]["iops"]


def sqlite(place):
    path = os.path.join(place.directory, "bench.db")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("create table t(a integer primary key, b text)")

    def insert():
        for i in range(INSERTS):
            db.execute("insert into t(b) values (?)", (f"row {i} " + "x" * 80,))

    seconds = timed(insert)
    db.close()
    os.unlink(path)
    return INSERTS / seconds


def untar(place, tree):
    run("tar", "xf", tree, "-C", place.directory)


def remove(place):
    run("rm", "-r", os.path.join(place.directory, "tree"))


def make_tree(path):
    random.seed(1)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        for n in range(FILES):
            directory = os.path.join(work, "tree", f"d{n % 40}", f"s{n % 7}")
            os.makedirs(directory, exist_ok=True)
            with open(os.path.join(directory, f"f{n}.c"), "wb") as f:
                f.write(random.randbytes(int(random.lognormvariate(8, 1.2))))
        with tarfile.open(path, "w") as tar:
            tar.add(os.path.join(work, "tree"), "tree")


def measure(place, args, tree):
    figures = {f"fio {rw}, read and write calls": fio(place, args.seconds, "psync", rw) for rw in ("randread", "randwrite")}
    figures |= {f"fio {rw}, mmap": fio(place, args.seconds, "mmap", rw) for rw in ("randread", "randwrite")}
    os.unlink(os.path.join(place.directory, "bench.data"))
    figures["sqlite inserts"] = sqlite(place)
    figures["tar: files unpacked"] = FILES / timed(lambda: untar(place, tree))
    figures["rm: files removed"] = FILES / timed(lambda: remove(place))
    return figures


def report(out, results):
    names = list(results["per_second"])
    kinds = list(results["per_second"]["tmpfs"])
    median = {n: {k: statistics.median(v) for k, v in results["per_second"][n].items()} for n in names}
    ratio = {n: {k: median[n][k] / median["tmpfs"][k] for k in kinds} for n in names}
    rows = [[k, f"{median['tmpfs'][k]:,.0f}"] + [f"{ratio[n][k]:.3f}" for n in names if n != "tmpfs"] for k in kinds]
    text = (f"`{results['command']}`: Linux {results['kernel']}, {results['processors']} processors, medians of "
            f"{results['rounds']} rounds.\n\n"
            + table(["per second", "tmpfs"] + [f"{n} / tmpfs" for n in names if n != "tmpfs"], rows))
    (out / "file-systems.md").write_text("# Ordinary programs, side by side\n\n" + text)
    bars(out / "file-systems.svg", "Ordinary programs: rate as a share of tmpfs's", "share of tmpfs",
         [n for n in names if n != "tmpfs"], [[k] + [ratio[n][k] for n in names if n != "tmpfs"] for k in kinds], log=True)
    page = out.parent / "benchmarks.md"
    begin, end = "<!-- file systems -->\n", "<!-- end -->\n"
    if page.exists() and begin in page.read_text():
        page.write_text(re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: begin + text + end, page.read_text(), flags=re.S))
    print(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin_dir")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "docs/benchmarks")
    args = parser.parse_args()
    missing = [c for c in ("fio", "bindfs", "mkfs.ext4", "gnuplot", "tar") if shutil.which(c) is None]
    if missing:
        sys.exit(f"not here: {', '.join(missing)}; Debian: apt-get install fio bindfs e2fsprogs gnuplot-nox")
    if os.geteuid() != 0:
        sys.exit("needs root: it mounts")
    if args.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    pmfs = os.path.join(os.path.abspath(args.bin_dir), "pmfs")
    work = tempfile.mkdtemp(prefix="pmfs-file-systems-", dir="/dev/shm")
    mounted = []
    try:
        d = {n: os.path.join(work, n) for n in ("tmpfs", "ext4", "bindfs", "bound", "pmfs")}
        for directory in d.values():
            os.mkdir(directory)
        with open(f"{work}/ext4.img", "wb") as image:
            image.truncate(512 << 20)
        run("mkfs.ext4", "-q", "-F", f"{work}/ext4.img")
        run("mount", "-o", "loop", f"{work}/ext4.img", d["ext4"])
        mounted.append(d["ext4"])
        run("bindfs", d["bound"], d["bindfs"])
        mounted.append(d["bindfs"])
        run(pmfs, "mkfs", f"{work}/vol", "--size", "256M")
        subprocess.run([pmfs, "mount", f"{work}/vol", d["pmfs"]], check=True)
        mounted.append(d["pmfs"])
        tree = f"{work}/tree.tar"
        make_tree(tree)
        places = [Place(n, d[n], [pmfs, "run", "--"] if n == "pmfs" else []) for n in ("tmpfs", "ext4", "bindfs", "pmfs")]
        per_second = {p.name: {} for p in places}
        for _ in range(args.rounds):
            for place in places:
                for what, figure in measure(place, args, tree).items():
                    per_second[place.name].setdefault(what, []).append(figure)
        results = {"command": f"bench/file_systems.py build/release/bin --rounds {args.rounds} --seconds {args.seconds}",
                   "kernel": platform.release(), "processors": os.cpu_count(), "rounds": args.rounds, "per_second": per_second}
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "file-systems.json").write_text(json.dumps(results, indent=1) + "\n")
        report(args.out, results)
    except subprocess.CalledProcessError as e:
        sys.exit(f"{' '.join(map(str, e.cmd))}: {(e.stderr or '')[-2000:]}{(e.stdout or '')[-500:]}")
    finally:
        for directory in reversed(mounted):
            subprocess.run(["umount", directory], stderr=subprocess.DEVNULL)
        time.sleep(1)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
