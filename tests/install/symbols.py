#!/usr/bin/python3
"""What libpmfs.so exports is what its public headers declare, and each symbol has a version.

    symbols.py LIBRARY INCLUDE_DIR
"""
import re
import subprocess
import sys

PUBLIC, PRIVATE = "PMFS_0", "PMFS_PRIVATE"
CXX_CLASSES = ("pmfs::Volume::", "pmfs::File::", "pmfs::Mapping::")
CXX_OTHERS = {"pmfs::persist", "pmfs::flush", "pmfs::drain", "typeinfo for pmfs::Error", "typeinfo name for pmfs::Error",
              "vtable for pmfs::Error"}
PRIVATE_NAMES = ("pmfs::admin::", "pmfs::Session::", "pmfs_preload_")


def exported(library):
    """[(demangled name without arguments, version)]"""
    out = subprocess.run(["nm", "-D", "--defined-only", "--demangle", library], check=True, capture_output=True, text=True).stdout
    found = []
    for line in out.splitlines():
        kind, name = line.split(" ", 2)[1:]
        name, at, version = name.rpartition("@@")
        if not at:
            name, version = line.split(" ", 2)[2], ""
        if kind == "A":  # the versions themselves
            continue
        found.append((re.sub(r"\[abi:\w+\]", "", name.split("(")[0]), version))
    return found


def declared(headers):
    with open(headers + "/pmfs/pmfs.h", encoding="utf-8") as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    return set(re.findall(r"\b(pmfs_[a-z0-9_]+)\(", text))


def complaints(symbols, functions):
    bad = []
    for name, version in symbols:
        if version == PRIVATE:
            good = name.startswith(PRIVATE_NAMES)
        elif version == PUBLIC:
            good = name in functions or name in CXX_OTHERS or name.startswith(CXX_CLASSES)
        else:
            good = False
        if not good:
            bad.append(f"{name}@{version or '(none)'} is exported and in no public header")
    public = {name for name, version in symbols if version == PUBLIC}
    bad += [f"{name}() is declared and not exported" for name in sorted((functions | CXX_OTHERS) - public)]
    return bad


def main():
    library, headers = sys.argv[1:]
    symbols, functions = exported(library), declared(headers)
    bad = complaints(symbols, functions)
    if len(functions) < 40:
        bad.append("pmfs.h has hardly any function")
    # This check can fail.
    for planted in ([("std::vector<int>::push_back", PUBLIC)], [("pmfs::Session::call", PUBLIC)], [("pmfs_open", "")]):
        if not complaints(symbols + planted, functions):
            bad.append(f"{planted} was not found to be wrong")
    if not complaints([s for s in symbols if s[0] != "pmfs_open"], functions):
        bad.append("a missing pmfs_open was not found to be wrong")
    for b in bad:
        print("FAILED:", b, file=sys.stderr)
    print(f"{len(symbols)} symbols")
    return 1 if bad else 0


sys.exit(main())
