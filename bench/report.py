#!/usr/bin/env python3
"""Tables and plots of the exclusion schemes, from the figures that tools/bench measured.

usage: report.py DIR    reads DIR/primitives.json and DIR/schemes.json, writes DIR/tables.md and DIR/*.svg (gnuplot)
"""
import json
import pathlib
import re
import subprocess
import sys


def read(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as e:
        sys.exit(f"report.py: {path}: {e}")


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def number(value):
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


# --- primitives: Google Benchmark's JSON


def to_ns(run):
    return run["real_time"] * {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[run["time_unit"]]


def primitives_by_name(figures):
    return {re.sub(r"/real_time", "", run["name"]): run for run in figures["benchmarks"]}


def scheme_names(runs):
    return list(dict.fromkeys(name.split("/")[1] for name in runs if name.startswith("SchemePunch/")))


def ns(runs, name):
    return to_ns(runs[name]) if name in runs else None


def primitives_tables(runs):
    schemes, threads = scheme_names(runs), (1, 2, 4, 8)
    text = "## Primitives\n\nNanoseconds. A fault: enter, lock the entry, unlock, leave; each thread on a page of its own.\n\n"
    text += table(
        ["scheme"] + [f"fault, {t} thread{'s' * (t > 1)}" for t in threads]
        + ["punch alone", "fault beside a disjoint punch", "fault beside an overlapping punch"],
        [[s] + [number(ns(runs, f"SchemeFault/{s}/threads:{t}")) for t in threads]
         + [number(ns(runs, f"SchemePunch/{s}"))]
         + [number(ns(runs, next((n for n in runs if n.startswith(f"SchemeBesidePunches/{s}/apart:{w}")), "")))
            for w in ("32768", "0")]
         for s in schemes])
    text += "\nThe lock-entry tree, by pages in it:\n\n"
    pages = sorted(int(n.split("/")[1]) for n in runs if n.startswith("Lookup/"))
    text += table(
        ["pages", "lookup, ns", "fault on a random page, ns", "bytes per page"],
        [[f"{p:,}", number(ns(runs, f"Lookup/{p}")), number(ns(runs, f"FaultOnRandomPage/{p}")),
          number(runs[f"Lookup/{p}"].get("bytes/page"))] for p in pages])
    text += "\nMarking a range for a punch and unmarking it:\n\n"
    marks = [n for n in runs if n.startswith("MarkUnmark/")]
    text += table(["pages marked", "entries in the file", "ns"],
                  [re.findall(r":(\d+)", n) + [number(ns(runs, n))] for n in marks])
    return text


# --- the whole manager


def find(rows, subject, clients, puncher, target=None):
    for row in rows:
        if (row["subject"], row["clients"], row["puncher"], row.get("target")) == (subject, clients, puncher, target):
            return row
    return None


TARGETS = ("other file", "other half", "same half", "truncate")


def manager_tables(rows):
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    text = ("\n## Whole manager\n\nWrite faults on random pages of the first half of a file that has its blocks. The puncher "
            "punches 64 KiB and refills them by stores, 1,000 times a second (paced) or as fast as it can (unpaced): of "
            "another file (the control: what the load alone costs), of the other half, of the same half; or it cuts the last "
            "64 KiB off and grows the file again (truncate). Kept: faults/s as a share of those alone.\n")
    for clients in (1, 4, 16):
        text += f"\n### {clients} client{'s' * (clients > 1)}\n\n"
        text += table(
            ["", "faults/s alone", "p50 us", "p99 us", "p99.9 us"]
            + [f"kept, {p}: {t}" for p in ("paced", "unpaced") for t in TARGETS],
            [[s] + [number(find(rows, s, clients, "alone")[k] / d) for k, d in
                    (("faults_per_second", 1), ("p50_ns", 1e3), ("p99_ns", 1e3), ("p999_ns", 1e3))]
             + [number(find(rows, s, clients, p, t)["kept"]) for p in ("paced", "unpaced") for t in TARGETS]
             for s in subjects])
    text += "\n### One client: latency of the faults, and the puncher's pace\n\n"
    text += table(
        ["", "p99 us alone"] + [f"p99 us, {p}: {t}" for p in ("paced", "unpaced") for t in TARGETS]
        + [f"punches/s, unpaced: {t}" for t in TARGETS],
        [[s, number(find(rows, s, 1, "alone")["p99_ns"] / 1e3)]
         + [number(find(rows, s, 1, p, t)["p99_ns"] / 1e3) for p in ("paced", "unpaced") for t in TARGETS]
         + [number(find(rows, s, 1, "unpaced", t)["punches_per_second"]) for t in TARGETS]
         for s in subjects])
    return text


# --- plots


def gnuplot(path, title, commands, blocks):
    data = "".join(f"${name} << EOD\n" + "\n".join("\t".join(str(c) for c in row) for row in rows) + "\nEOD\n"
                   for name, rows in blocks.items())
    script = (f"set terminal svg size 900,420 dynamic background rgb 'white' font 'sans,13'\nset output '{path}'\n"
              f"set title \"{title}\"\nset datafile separator tab\nset key outside right top\nset grid y\n{data}{commands}\n")
    done = subprocess.run(["gnuplot"], input=script, text=True, capture_output=True, check=False)
    if done.returncode != 0 or done.stderr:
        sys.exit(f"report.py: gnuplot: {path}: {done.stderr}")


def bars(path, title, ylabel, columns, rows, log=False):
    commands = (f"set style data histograms\nset style fill solid 0.8\nset xtics rotate by -30\nset ylabel '{ylabel}'\n"
                + ("set logscale y\n" if log else "set yrange [0:*]\n")
                + "plot " + ", ".join(f"$d using {i + 2}:xtic(1) title '{c}'" for i, c in enumerate(columns)))
    gnuplot(path, title, commands, {"d": rows})


def lines(path, title, xlabel, ylabel, series):
    commands = (f"set logscale x\nset xlabel '{xlabel}'\nset ylabel '{ylabel}'\nset yrange [0:*]\nplot "
                + ", ".join(f"$s{i} using 1:2 with linespoints dashtype {1 + i // 8} title '{name}'" for i, name in enumerate(series)))
    gnuplot(path, title, commands, {f"s{i}": rows for i, rows in enumerate(series.values())})


def plots(out, runs, rows):
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    for pace in ("paced", "unpaced"):
        bars(out / f"kept-{pace}.svg", f"Write faults kept beside a puncher ({pace}), one client", "share of those alone", TARGETS,
             [[s] + [find(rows, s, 1, pace, t)["kept"] for t in TARGETS] for s in subjects])
    bars(out / "p99.svg", "p99 of a write fault, one client, puncher unpaced", "us",
         ("alone",) + TARGETS,
         [[s, find(rows, s, 1, "alone")["p99_ns"] / 1e3]
          + [find(rows, s, 1, "unpaced", t)["p99_ns"] / 1e3 for t in TARGETS] for s in subjects], log=True)
    lines(out / "fault-threads.svg", "A fault's lock and unlock, each thread on a page of its own", "threads", "ns",
          {s: [[t, ns(runs, f"SchemeFault/{s}/threads:{t}")] for t in (1, 2, 4, 8)] for s in scheme_names(runs)})
    pages = sorted(int(n.split("/")[1]) for n in runs if n.startswith("Lookup/"))
    lines(out / "lookup.svg", "Lookup of a random page in the lock-entry tree", "pages", "ns",
          {"lookup": [[p, ns(runs, f"Lookup/{p}")] for p in pages]})


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    runs = primitives_by_name(read(out / "primitives.json"))
    schemes = read(out / "schemes.json")
    head = (f"# Figures\n\nWritten by `tools/bench`. Linux {schemes['kernel']}, {schemes['processors']} processors; medians of "
            f"{schemes['rounds']} rounds of {schemes['seconds']} s, a file of {schemes['half_bytes'] >> 19} MiB.\n\n")
    (out / "tables.md").write_text(head + primitives_tables(runs) + manager_tables(schemes["rows"]))
    plots(out, runs, schemes["rows"])


if __name__ == "__main__":
    main()
