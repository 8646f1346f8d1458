#!/bin/bash
# stress-ng's stressors of file systems on the mount, each with its own verification.
. "$(dirname "$0")/common.sh"
need stress-ng
cd "$MNT"
time=$(by_length 2 30)

stress() {  # STRESSOR OPTIONS...
  local name=$1
  shift
  step "$name"
  mkdir "$MNT/$name"
  timeout $((time * 3 + 60)) stress-ng --"$name" 2 "$@" --timeout "${time}s" --verify --temp-path "$MNT/$name" --metrics \
    >"$WORK/out" 2>&1 </dev/null || die "stress-ng $name: $(tail -20 "$WORK/out")"
  if grep -q "fail:\|error:" "$WORK/out"; then die "stress-ng $name: $(grep 'fail:\|error:' "$WORK/out" | head -5)"; fi
  rm -rf "${MNT:?}/$name"
}

stress fallocate --fallocate-bytes 16m
stress seek --seek-size 16m --seek-punch
stress rename
stress dir
stress hdd --hdd-bytes 16m --hdd-opts wr-rnd,rd-rnd,fsync
stress copy-file --copy-file-bytes 128m
stress flock
stress lockf
if [ -n "$long" ]; then
  stress aio
  stress chmod
  stress chown
  stress dentry
  stress dirdeep --dirdeep-inodes 2000
  stress dirmany
  stress fcntl
  stress filename
  stress fstat
  stress getdent
  stress iomix --iomix-bytes 64m
  stress link
  stress lockofd
  stress open
  stress readahead --readahead-bytes 32m
  stress symlink
  stress sync-file --sync-file-bytes 32m
  stress utime
  stress xattr
fi
