#!/bin/bash
# fio's mmap and libpmem engines on the mount under the shim, with its verification on. The libpmem engine asks for MAP_SYNC.
. "$(dirname "$0")/../programs/common.sh"
need fio
cd "$MNT"
size=$(by_length 32M 256M)

verify() {  # NAME OPTIONS...
  local name=$1
  shift
  step "$name"
  "$BIN/pmfs" run -- fio --name="$name" --directory="$MNT" --size="$size" --bs=4k --verify=crc32c --verify_fatal=1 \
    --do_verify=1 --output="$WORK/$name.log" "$@" || die "$name: $(tail -20 "$WORK/$name.log")"
  ! grep -q 'verify: bad' "$WORK/$name.log" || die "$name: $(grep -m3 'verify: bad' "$WORK/$name.log")"
  rm -f "$MNT/$name".*
}

verify mmap-random --ioengine=mmap --rw=randwrite --numjobs=2
verify mmap-sequential --ioengine=mmap --rw=write --bs=64k --fsync=64
if fio --enghelp | grep -q libpmem; then
  verify libpmem --ioengine=libpmem --rw=randwrite --direct=1 --thread
fi
