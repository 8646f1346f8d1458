#!/bin/bash
# The command line tool, as a user meets it: mkfs, serve, files in and out, crashes, refusals.
#
#   cli_test.sh BIN_DIR        (the directory that has pmfs)
set -eu

bin=$(cd "$1" && pwd)
work=$(mktemp -d /dev/shm/pmfs-cli-XXXXXX)
vol=$work/vol
manager=
started=()

cleanup() {
  local pid
  for pid in "${started[@]}"; do
    kill -KILL "$pid" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap cleanup EXIT

die() {
  echo "FAILED: $*" >&2
  [ ! -s "$work/log" ] || { echo "--- the manager's log" >&2; tail -20 "$work/log" >&2; }
  exit 1
}
step() { echo "- $*"; }
pmfs() { timeout 60 "$bin/pmfs" "$@"; }

# Runs pmfs; it must fail with exit code $1 and one line on standard error that has all of the words up to "--".
refused() {
  local want=$1 code=0 words=()
  shift
  while [ "$1" != -- ]; do words+=("$1"); shift; done
  shift
  pmfs "$@" >"$work/out" 2>"$work/err" || code=$?
  [ "$code" = "$want" ] || die "pmfs $*: exit code $code, not $want: $(cat "$work/err")"
  [ "$(grep -c '^pmfs: ' "$work/err")" = 1 ] && [ "$(wc -l <"$work/err")" = 1 ] ||
    die "pmfs $*: not one line: $(cat "$work/err")"
  local w
  for w in "${words[@]}"; do
    grep -qF -- "$w" "$work/err" || die "pmfs $*: '$w' is not in: $(cat "$work/err")"
  done
}

# Starts a manager of $1 and returns when clients can connect. Sets $manager.
serve() {
  local dir=$1
  shift
  rm -f "$work/ready"
  # A file, not a FIFO: a read with a time limit may take the byte and say that there was none.
  "$bin/pmfs" serve "$dir" --ready-fd 3 "$@" 3>"$work/ready" 2>>"$work/log" &
  manager=$!
  started+=("$manager")
  local i
  for i in $(seq 300); do
    if [ -s "$work/ready" ] || ! kill -0 "$manager" 2>/dev/null; then break; fi
    sleep 0.1
  done
  [ "$(od -An -tx1 "$work/ready")" = " 01" ] || die "serve $dir: not ready"
}

# The manager ends by itself within 30 s, with exit code $1.
ended() {
  local i code=0
  for i in $(seq 300); do
    kill -0 "$manager" 2>/dev/null || break
    sleep 0.1
  done
  ! kill -0 "$manager" 2>/dev/null || die "the manager does not end"
  { wait "$manager" || code=$?; } 2>/dev/null
  [ "$code" = "$1" ] || die "the manager's exit code is $code, not $1"
}

# $1: a Python expression over `j`, the JSON on standard input; it must be true.
json() { python3 -c "import json, sys; j = json.load(sys.stdin); sys.exit(0 if ($1) else 1)" || die "json: not $1"; }
json_value() { python3 -c "import json, sys; j = json.load(sys.stdin); print($1)"; }
sum() { sha256sum <"$1" | cut -d' ' -f1; }
same() { [ "$(sum "$1")" = "$(sum "$2")" ] || die "$1 and $2 differ"; }
free_blocks() { pmfs df "$vol" --json | json_value 'j["blocks_free"] + j["blocks_reserved"] + j["blocks_zero"]'; }

step "command line"
refused 2 "see pmfs" --
refused 2 "see pmfs" -- frobnicate
refused 2 "not a size" "12Q" -- mkfs "$vol" --size 12Q
refused 2 "multiple" -- mkfs "$vol" --size 20000001
refused 2 "VOLUME_DIR:/path" -- ls "$vol"
refused 2 "not a mode" -- serve "$vol" --socket-mode 99
refused 2 "read-only-socket-mode 8" "not a mode" -- serve "$vol" --read-only-socket-mode 8
refused 2 "not an open file descriptor" -- serve "$vol" --ready-fd 77
[ ! -e "$vol" ] || die "a refused command left $vol"
for c in mkfs serve df ls stat cp truncate punch rm mkdir rmdir mv ln clone readlink chmod chown getxattr setxattr listxattr \
  rmxattr quota project grow clients counters shutdown top metrics reference; do
  pmfs "$c" --help | grep -q "pmfs $c" || die "pmfs $c --help has no example"
done
pmfs serve --exclusion list --json | json 'any(s["name"] == "range" and s["default"] for s in j["schemes"])'
pmfs serve --exclusion list | grep -q "broken on purpose" || die "the list hides the broken schemes"

step "its manual page and its completion name every command and option"
pmfs reference man >"$work/pmfs.1"
groff -man -Tutf8 -ww "$work/pmfs.1" 2>"$work/err" >/dev/null || die "groff fails"
[ ! -s "$work/err" ] || die "groff complains: $(head -3 "$work/err")"
pmfs reference bash >"$work/pmfs.bash"
for c in $(pmfs --help | sed -n '/^Subcommands/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
  grep -q "^\.SS pmfs $c " "$work/pmfs.1" || die "the manual page has no $c"
  for option in $(pmfs "$c" --help | grep -o '^  .*' | grep -o -- '--[a-z][a-z-]*' | sort -u); do
    case $option in --help | --json) continue ;; esac
    sed 's/\\-/-/g' "$work/pmfs.1" | grep -q -- "$option" || die "the manual page has no $option of $c"
  done
done
completes() {  # WANTED WORDS...: the last of them is completed
  local want=$1
  shift
  bash -c 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pmfs; printf "%s\n" "${COMPREPLY[@]}"' \
    _ "$work/pmfs.bash" "$@" | grep -qx -- "$want" || die "completion of '$*' has no $want"
}
completes truncate pmfs tr
completes --size pmfs truncate --s
completes "$work/pmfs.1" pmfs ls "$work/pm"

step "mkfs"
refused 1 "too small" -- mkfs "$vol" --size 1M
refused 1 "no volume" "pmfs mkfs" -- serve "$vol"
pmfs mkfs "$vol" --size 64M --json | json 'j["blocks"] == 16384 and not j["sparse"]'
[ "$(stat -c %a "$vol/meta")" = 600 ] || die "meta is not mode 0600"
refused 1 "--force" -- mkfs "$vol" --size 64M
refused 2 "4K and 2M" -- mkfs "$work/units" --size 64M --unit 1M
refused 1 "whole units" -- mkfs "$work/units" --size 65M --unit 2M
pmfs mkfs "$work/units" --size 64M --unit 2M --sparse --json | json 'j["unit_bytes"] == 2 << 20 and j["block_size"] == 4096'
rm -r "$work/units"
pmfs mkfs "$vol" --size 64M --force >/dev/null
refused 1 "no manager" "pmfs serve" -- df "$vol"

step "serve: schemes"
refused 1 "broken on purpose" -- serve "$vol" --exclusion none
refused 1 "there is none of that name" "range" -- serve "$vol" --exclusion nonsense

step "serve, df"
serve "$vol"
first=$manager
pmfs df "$vol" | grep -q "the sum of these" || die "df does not add up"
pmfs df "$vol" --json | json "j['adds_up'] and j['region_kind'] == 'shmem' and j['exclusion'] == 'range' \
  and j['manager_pid'] == $first and j['blocks_total'] == 16384 and len(j['granularity']) > 0"
refused 1 "process $first" "pmfs shutdown" -- serve "$vol"
refused 1 "process $first" -- mkfs "$vol" --size 64M --force
pmfs counters "$vol" --json | json 'j["counters"]["requests"] > 0'
pmfs metrics "$vol" >"$work/out"
grep -q "^# TYPE pmfs_faults_total counter$" "$work/out" || die "metrics: no type"
[ "$(grep -c '^pmfs_bytes{volume="[^"]*",state="[a-z]*"} [0-9]*$' "$work/out")" = 5 ] || die "metrics: not all states of blocks"
grep -v '^#' "$work/out" | grep -vqE '^pmfs_[a-z0-9_]+\{[^}]*\} [0-9]+$' && die "metrics: $(grep -v '^#' "$work/out" | grep -vE ' [0-9]+$')"
pmfs metrics "$vol" --file "$work/pmfs.prom" --every 0
grep -q "^pmfs_clients{" "$work/pmfs.prom" || die "metrics: no file"
refused 1 "nowhere" -- metrics "$vol" --file "$work/nowhere/pmfs.prom"
pmfs top "$vol" --every 0.1 --count 2 --json >"$work/out"
[ "$(wc -l <"$work/out")" = 2 ] || die "top: not two lines"
tail -1 "$work/out" | json 'j["requests_per_s"] > 0 and len(j["clients"]) == 1 and j["clients"][0]["faults_per_s"] == 0'
pmfs top "$vol" --every 0.1 --count 1 | grep -q "faults/s" || die "top shows no faults/s"
pmfs top "$vol" --every 0.1 --count 1 | grep -q $'\x1b' && die "colours where there is no terminal"
pmfs clients "$vol" --json | json 'len(j["clients"]) == 1 and j["clients"][0]["self"]'

step "cp: round trip"
head -c 5000001 /dev/urandom >"$work/a"
chmod 640 "$work/a"
before=$(free_blocks)
pmfs cp "$work/a" "$vol:/a" --json | json 'j["size"] == 5000001 == j["data_bytes"]'
pmfs cp "$vol:/a" "$work/a.back"
same "$work/a" "$work/a.back"
[ "$(stat -c %a "$work/a.back")" = 640 ] || die "the mode is lost"
pmfs cp "$work/a" "$vol:/" && pmfs ls "$vol:/" | grep -qx a || die "into a directory"
: >"$work/empty"
pmfs cp "$work/empty" "$vol:/empty" && pmfs cp "$vol:/empty" "$work/empty.back"
same "$work/empty" "$work/empty.back"
head -c 3000000 /dev/urandom >"$work/b"
pmfs cp "$work/b" "$vol:/a" --progress 2>"$work/err"
grep -q "100 %" "$work/err" || die "no progress"
pmfs cp "$vol:/a" "$work/a.back"
same "$work/b" "$work/a.back"
cat "$work/a" | pmfs cp /dev/stdin "$vol:/pipe"
pmfs cp "$vol:/pipe" "$vol:/pipe2"
pmfs cp "$vol:/pipe2" "$work/a.back"
same "$work/a" "$work/a.back"
pmfs rm "$vol:/pipe" "$vol:/pipe2"

step "cp: holes"
truncate -s 40M "$work/sparse"
head -c 8192 /dev/urandom | dd of="$work/sparse" bs=4096 seek=1000 conv=notrunc status=none
head -c 5000 /dev/urandom | dd of="$work/sparse" bs=4096 seek=9000 conv=notrunc status=none
pmfs cp "$work/sparse" "$vol:/sparse" --json | json 'j["size"] == 40 << 20 and j["data_bytes"] <= 65536'
pmfs stat "$vol:/sparse" --json |
  json 'j["size"] == 40 << 20 and sum(e["count"] for e in j["extents"] if not e["unwritten"]) <= 16'
pmfs cp "$vol:/sparse" "$work/sparse.back"
same "$work/sparse" "$work/sparse.back"
[ "$(stat -c %b "$work/sparse.back")" -le 256 ] || die "the holes are filled: $(stat -c %b "$work/sparse.back")"

step "cp: errors leave nothing"
head -c 80M /dev/zero >"$work/toobig"
names=$(pmfs ls "$vol:/")
for attempt in 1 2; do
  refused 1 "No space left" "pmfs df" -- cp "$work/toobig" "$vol:/toobig"
done
rm "$work/toobig"
[ "$(pmfs ls "$vol:/")" = "$names" ] || die "something is left: $(pmfs ls "$vol:/")"
refused 1 "No such file" -- cp "$work/missing" "$vol:/x"
refused 1 "No such file" -- cp "$vol:/missing" "$work/x"
refused 1 "No such file" -- cp "$work/a" "$vol:/no/such/dir"
refused 1 "directory" -- cp "$work" "$vol:/x"
refused 2 "VOLUME_DIR:/path" -- cp "$work/a" "$work/x"
[ ! -e "$work/x" ] || die "a refused copy left a file"
mkfifo "$work/slow"
exec 4<>"$work/slow"
"$bin/pmfs" cp "$work/slow" "$vol:/slow" 2>/dev/null &
copier=$!
started+=("$copier")
head -c 100000 /dev/zero >&4
for i in $(seq 100); do
  [ "$(pmfs ls "$vol:/")" = "$names" ] || break
  sleep 0.1
done
[ "$(pmfs ls "$vol:/")" != "$names" ] || die "the slow copy has not begun"
kill -TERM "$copier"
head -c 100000 /dev/zero >&4 &
writer=$!
started+=("$writer")
if wait "$copier"; then die "an ended copy says it was done"; fi
kill "$writer" 2>/dev/null || true
exec 4>&-
[ "$(pmfs ls "$vol:/")" = "$names" ] || die "an ended copy left: $(pmfs ls "$vol:/")"

step "truncate, punch"
pmfs cp "$work/b" "$vol:/t"
cp "$work/b" "$work/t"
pmfs punch "$vol:/t" --offset 5000 --length 1M
dd if=/dev/zero of="$work/t" bs=1 seek=5000 count=0 conv=notrunc status=none
fallocate -p -o 5000 -l 1048576 "$work/t"
pmfs cp "$vol:/t" "$work/t.back"
same "$work/t" "$work/t.back"
pmfs truncate "$vol:/t" --size 2M && truncate -s 2M "$work/t"
pmfs cp "$vol:/t" "$work/t.back"
same "$work/t" "$work/t.back"
pmfs truncate "$vol:/t" --size 1500001 && truncate -s 1500001 "$work/t"
pmfs truncate "$vol:/t" --size 3M --json | json 'j["size"] == 3 << 20'
truncate -s 3M "$work/t"
pmfs cp "$vol:/t" "$work/t.back"
same "$work/t" "$work/t.back"
refused 1 "No such file" "$vol:/missing" -- truncate "$vol:/missing" --size 1
refused 2 "at least one byte" -- punch "$vol:/t" --offset 0 --length 0

step "directories, names"
pmfs mkdir "$vol:/d"
refused 1 "exists" -- mkdir "$vol:/d"
pmfs mkdir -p "$vol:/d/e/f" && pmfs mkdir -p "$vol:/d/e/f"
refused 1 "not empty" -- rmdir "$vol:/d"
pmfs mv "$vol:/t" "$vol:/d/e"
pmfs stat "$vol:/d/e/t" | grep -q "3145728 bytes" || die "stat"
pmfs stat "$vol:/d" --json | json 'j["type"] == "directory"'
pmfs mv "$vol:/d/e/t" "$vol:/d/u"
refused 1 "No such file" "$vol:/t" -- stat "$vol:/t"
refused 1 "directory" -- rm "$vol:/d"
pmfs ls -l "$vol:/d" | grep -q '^drwx.* e$' || die "ls -l"
pmfs ls "$vol:/d" --json | json '[e["name"] for e in j["entries"]] == ["e", "u"] and j["entries"][1]["size"] == 3 << 20'
odd=$'odd\n\xff name'
pmfs cp "$work/b" "$vol:/$odd"
pmfs ls "$vol:/" | grep -q 'odd\\x0a' || die "a name breaks the listing"
pmfs ls "$vol:/" --json | json 'len(j["entries"]) > 0'
pmfs rm "$vol:/$odd"
pmfs rm "$vol:/d/u" -f "$vol:/missing"
pmfs rmdir "$vol:/d/e/f" "$vol:/d/e" "$vol:/d"
refused 1 "No such file" -- rm "$vol:/missing"

step "links, attributes"
pmfs mkdir "$vol:/n"
pmfs cp "$work/b" "$vol:/n/f"
pmfs ln "$vol:/n/f" "$vol:/n/g"
pmfs stat "$vol:/n/g" --json | json 'j["nlink"] == 2'
pmfs ln -s ../n/f "$vol:/n/l"
[ "$(pmfs readlink "$vol:/n/l")" = ../n/f ] || die "readlink"
pmfs stat "$vol:/n/l" --json | json 'j["type"] == "symlink" and j["size"] == 6'
pmfs ls -l "$vol:/n" | grep -q '^lrwx.* l -> ../n/f$' || die "ls -l of a symbolic link"
pmfs cp "$vol:/n/l" "$work/b.back"
same "$work/b" "$work/b.back"
pmfs clone "$vol:/n/f" "$vol:/n/c"
pmfs cp "$vol:/n/c" "$work/b.back"
same "$work/b" "$work/b.back"
refused 1 "exists" -- clone "$vol:/n/f" "$vol:/n/c"
pmfs rm "$vol:/n/c"
refused 1 "not a symbolic link" -- readlink "$vol:/n/f"
pmfs ln -s loop "$vol:/n/loop"
refused 1 "Too many levels" -- cp "$vol:/n/loop" "$work/none"
refused 1 "exists" -- mv -n "$vol:/n/f" "$vol:/n/l"
pmfs mv --exchange "$vol:/n/g" "$vol:/n/l"
[ "$(pmfs readlink "$vol:/n/g")" = ../n/f ] || die "mv --exchange"
pmfs chmod 4751 "$vol:/n/f"
pmfs chown 12:34 "$vol:/n/f"
pmfs stat "$vol:/n/f" --json | json 'j["mode"] == "0751" and j["uid"] == 12 and j["gid"] == 34'
refused 2 "in octal" -- chmod 888 "$vol:/n/f"
refused 2 "not an owner" -- chown me "$vol:/n/f"
pmfs setxattr "$vol:/n/f" user.origin backup --create
[ "$(pmfs getxattr "$vol:/n/f" user.origin)" = backup ] || die "getxattr"
[ "$(pmfs listxattr "$vol:/n/f")" = user.origin ] || die "listxattr"
refused 1 "user.origin" -- setxattr "$vol:/n/f" user.origin again --create
refused 1 "must begin with" -- setxattr "$vol:/n/f" origin again
pmfs rmxattr "$vol:/n/f" user.origin
refused 1 "user.origin" -- getxattr "$vol:/n/f" user.origin
pmfs rm "$vol:/n/f" "$vol:/n/g" "$vol:/n/l" "$vol:/n/loop"
pmfs rmdir "$vol:/n"

step "quotas"
pmfs mkdir "$vol:/q"
pmfs project "$vol:/q" 7 --inherit
[ "$(pmfs project "$vol:/q")" = "7 inherit" ] || die "project"
pmfs quota "$vol" --project 7 --space 1M --inodes 3
refused 1 "quota" -- cp "$work/b" "$vol:/q/too-large"
head -c 500000 "$work/b" >"$work/small"
pmfs cp "$work/small" "$vol:/q/small"
pmfs quota "$vol" --json | json 'j["quotas"][0]["blocks"] == 123 and j["quotas"][0]["inodes"] == 2'
pmfs quota "$vol" --project 7 --space 0 --inodes 0
pmfs quota "$vol" --json | json 'j["quotas"] == []'
refused 2 "whose quota" -- quota "$vol" --space 1M
pmfs rm "$vol:/q/small"
pmfs rmdir "$vol:/q"

step "errors as JSON"
refused 1 "$vol:/missing" -- stat "$vol:/missing" --json
json 'j["error"]["errno"] == 2 and "missing" in j["error"]["message"]' <"$work/out"
refused 2 "see pmfs ls" -- ls --json
json 'j["error"]["errno"] == 22' <"$work/out"

step "all space comes back"
pmfs rm "$vol:/a" "$vol:/empty" "$vol:/sparse"
for i in $(seq 50); do
  [ "$(free_blocks)" != "$before" ] || break
  sleep 0.1
done
[ "$(free_blocks)" = "$before" ] || die "free: $(free_blocks), at first $before"

step "SIGTERM, remount"
pmfs cp "$work/a" "$vol:/kept"
kill -TERM "$manager"
ended 0
[ ! -e "$vol/pmfs.sock" ] && refused 1 "no manager" -- ls "$vol:/" || die "the socket is still there"
serve "$vol"
pmfs cp "$vol:/kept" "$work/kept.back"
same "$work/a" "$work/kept.back"
grep -q "a clean stop since" "$work/log" || die "the stop was not clean"

step "kill -9, remount"
pmfs cp "$work/b" "$vol:/kept2"
kill -KILL "$manager"
ended 137
refused 1 "no manager" -- ls "$vol:/"
other=$(pmfs serve --exclusion list --json |
  json_value '([s["name"] for s in j["schemes"] if s["sound"] and not s["default"]] + ["range"])[0]')
serve "$vol" --exclusion "$other"
pmfs df "$vol" --json | json "j['exclusion'] == '$other'"
pmfs df "$vol" --json | json 'j["adds_up"] and j["blocks_deferred"] == 0'
for f in a:kept b:kept2; do
  pmfs cp "$vol:/${f#*:}" "$work/kept.back"
  same "$work/${f%:*}" "$work/kept.back"
done
grep -q "a crash, repaired" "$work/log" || die "the crash was not noticed"

step "shutdown"
pmfs shutdown "$vol" --json | json "j['manager_pid'] == $manager and j['stopped']"
ended 0

step "a broken scheme, for torture"
serve "$vol" --exclusion none --torture-allow-broken --trace --canary
pmfs df "$vol" --json | json 'j["exclusion"] == "none"'
kill -INT "$manager"
ended 0

step "damage is refused"
cp --sparse=always "$vol/data" "$work/data.whole"
truncate -s 32M "$vol/data"
refused 1 "truncated" -- serve "$vol"
mv "$work/data.whole" "$vol/data"
pmfs mkfs "$work/other" --size 32M --sparse >/dev/null
mv "$vol/meta" "$work/meta.mine"
cp "$work/other/meta" "$vol/meta"
refused 1 "belongs to another volume" -- serve "$vol"
head -c 1M /dev/urandom >"$vol/meta"
refused 1 "meta" -- serve "$vol"
mv "$work/meta.mine" "$vol/meta"
serve "$vol"
pmfs cp "$vol:/kept" "$work/kept.back"
same "$work/a" "$work/kept.back"
pmfs shutdown "$vol"
ended 0
step "grow"
serve "$vol"
blocks=$(pmfs df "$vol" --json | json_value 'j["blocks_total"]')
before=$(free_blocks)
refused 1 "can't shrink" -- grow "$vol" 32M
refused 2 "multiple" -- grow "$vol" 100000001
refused 1 "while it is in use" -- grow "$vol" 2T
pmfs grow "$vol" 96M --json | json 'j["served"] and j["bytes"] == 96 << 20'
pmfs df "$vol" --json | json "j['adds_up'] and j['blocks_total'] == 24576"
[ "$(free_blocks)" = $((before + 24576 - blocks)) ] || die "free after growing: $(free_blocks), before $before of $blocks"
head -c 60M /dev/urandom >"$work/large"
pmfs cp "$work/large" "$vol:/large"
pmfs cp "$vol:/large" "$work/large.back"
same "$work/large" "$work/large.back"
kill -KILL "$manager"
ended 137
pmfs grow "$vol" 128M --json | json 'not j["served"]'
pmfs fsck "$vol" | grep -q "of 32768 blocks used: clean" || die "fsck after growing"
serve "$vol"
pmfs cp "$vol:/large" "$work/large.back"
same "$work/large" "$work/large.back"
pmfs rm "$vol:/large"
pmfs shutdown "$vol"
ended 0
rm "$work/large" "$work/large.back"

step "fsck"
# The name of a file in the metadata, changed behind everybody's back, with clones and quotas around.
serve "$vol"
pmfs clone "$vol:/kept" "$vol:/kept.clone"
pmfs quota "$vol" --user 0 --space 60M --inodes 500
pmfs cp "$work/b" "$vol:/a-name-to-look-for"
refused 8 "process $manager" -- fsck "$vol"
pmfs shutdown "$vol"
ended 0
pmfs fsck "$vol" | grep -q "clean$" || die "a volume in order is not clean"
pmfs fsck "$vol" --json | json 'j["exit_code"] == 0 and j["findings"] == [] and not j["repaired"]'
python3 - "$vol/meta" <<'END'
import sys
with open(sys.argv[1], "r+b") as f:
    at = f.read().find(b"a-name-to-look-for")
    f.seek(at)
    f.write(b"A")
END
before=$(sum "$vol/meta")
code=0
pmfs fsck "$vol" --json >"$work/out" || code=$?
[ "$code" = 4 ] && [ "$(sum "$vol/meta")" = "$before" ] || die "fsck: exit code $code, or it changed something"
json 'j["findings_total"] >= 1 and any("A-name-to-look-for" in f["text"] for f in j["findings"])' <"$work/out"
code=0
pmfs fsck --repair "$vol" >"$work/out" || code=$?
[ "$code" = 1 ] && grep -q "repaired, 0 things lost" "$work/out" || die "repair: exit code $code: $(cat "$work/out")"
[ "$(sum "$vol/meta.damaged.1")" = "$before" ] || die "the damaged metadata is not kept"
pmfs fsck "$vol" >/dev/null || die "damage after the repair"
serve "$vol"
for f in a:kept a:kept.clone b:A-name-to-look-for; do
  pmfs cp "$vol:/${f#*:}" "$work/kept.back"
  same "$work/${f%:*}" "$work/kept.back"
done
pmfs rm "$vol:/kept"
pmfs cp "$vol:/kept.clone" "$work/kept.back"
same "$work/a" "$work/kept.back"
pmfs quota "$vol" --json | json 'j["quotas"][0]["block_limit"] == 15360 and j["quotas"][0]["inode_limit"] == 500'

step "a manager that runs is replaced; one that does not run can't be"
old=$manager
serve "$vol" --takeover
new=$manager manager=$old
ended 0
manager=$new
grep -q "handed over" "$work/log" || die "the old manager does not say that it has handed over"
pmfs cp "$vol:/kept.clone" "$work/kept.back"
same "$work/a" "$work/kept.back"
kill -KILL "$manager"
ended 137
refused 1 "no manager serves it" "leave --takeover out" -- serve "$vol" --takeover
serve "$vol"
pmfs shutdown "$vol"
ended 0
echo "all passed"
