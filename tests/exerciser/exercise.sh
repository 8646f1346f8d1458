#!/bin/bash
# exercise.sh native|fuse|shim|both|acked|stalled|tmpfs|planted|lists: run by on_mount.sh. PMFS_LONG=1: ten times as many
# operations, each time with a seed of its own.
set -eu

die() {
  echo "FAILED: $*" >&2
  exit 1
}
ops=200000 seeds=1
case $1 in
  native | fuse | shim) ops=340000 ;;  # 10^6 together
  stalled) ops=50000 ;;
esac
if [ -n "${PMFS_LONG:-}" ]; then seeds=10; fi
run=() manager=
case $1 in
  native) target=(--volume "$VOL") ;;
  fuse) target=(--directory "$MNT") ;;
  shim) target=(--directory "$MNT" --must-map) run=("$BIN/pmfs" run --) ;;  # mapped accesses natively, the rest by the kernel
  both) target=(--volume "$VOL" --directory "$MNT") ;;
  acked | stalled)  # natively, on a volume of its own in acked mode; stalled: and all threads are held up at any instruction
    if [ "$1" = stalled ]; then run=("$BIN/stall"); fi
    "$BIN/pmfs" mkfs "$WORK/acked" --size 64M >/dev/null
    mkfifo "$WORK/ready"
    "$BIN/pmfs" serve "$WORK/acked" --force-acked --ready-fd 3 3>"$WORK/ready" 2>"$WORK/acked.log" &
    manager=$!
    trap 'kill "$manager" 2>/dev/null || true' EXIT
    head -c 1 "$WORK/ready" | grep -c . >/dev/null || die "no manager: $(cat "$WORK/acked.log")"
    target=(--volume "$WORK/acked")
    ;;
  tmpfs) mkdir "$WORK/files" && target=(--directory "$WORK/files") ;;
  planted)  # a bug on a real target: found, shrunk, seen again; and not without it
    for bug in punch-edge stale-tail; do
      if "$BIN/exerciser" --volume "$VOL" --plant "$bug" --ops 20000 --save "$WORK/list" >"$WORK/out" 2>&1; then die "$bug is not caught"; fi
      cat "$WORK/out"
      [ "$(wc -l <"$WORK/list")" -le 5 ] || die "$bug is not shrunk"
      if "$BIN/exerciser" --volume "$VOL" --plant "$bug" --replay "$WORK/list" --save "$WORK/again" >"$WORK/out" 2>&1; then
        die "$bug is not seen again"
      fi
      "$BIN/exerciser" --directory "$MNT" --replay "$WORK/list" || die "the list fails without the bug"
    done
    exit 0
    ;;
  lists)  # what was found once
    for list in "$(dirname "$0")"/lists/*.txt; do
      "$BIN/exerciser" --volume "$VOL" --replay "$list" --save "$WORK/list" || die "$list fails"
    done
    exit 0
    ;;
  *) die "$1: no such target" ;;
esac
for seed in $(seq "$seeds"); do
  "${run[@]}" "$BIN/exerciser" "${target[@]}" --ops "$ops" --seed "$seed" --save "$WORK/list" || die "seed $seed, after $ops operations at most"
done
if [ -n "$manager" ]; then
  "$BIN/pmfs" shutdown "$WORK/acked"
  wait "$manager"
  "$BIN/pmfs" fsck "$WORK/acked" || die "fsck"
fi
