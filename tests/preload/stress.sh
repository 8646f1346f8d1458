#!/bin/bash
# stress-ng's mmap stressor with its files on the mount, under the shim.
. "$(dirname "$0")/../programs/common.sh"
need stress-ng
cd "$MNT"
seconds=$(by_length 5 60)
step "mmap of files"
PMFS_LOG='' "$BIN/pmfs" run -- stress-ng --mmap 2 --mmap-file --mmap-bytes 16M --temp-path "$MNT" --verify --timeout "${seconds}s" \
  >"$WORK/stress" 2>&1 || die "$(tail -20 "$WORK/stress")"
! grep -q 'fail:' "$WORK/stress" || die "$(grep -m5 'fail:' "$WORK/stress")"
