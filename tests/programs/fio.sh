#!/bin/bash
# fio on the mount with every engine that does not map: what is written is read back and verified.
. "$(dirname "$0")/common.sh"
need fio
cd "$MNT"
size=$(by_length 8m 128m)
loops=$(by_length 1 5)

run() {  # NAME OPTIONS...
  local name=$1
  shift
  step "$name"
  fio --name="$name" --directory="$MNT" --size="$size" --loops="$loops" --verify=crc32c --verify_fatal=1 --do_verify=1 \
    --randrepeat=1 --norandommap=0 --output="$WORK/out" --group_reporting "$@" </dev/null || die "fio $name: $(cat "$WORK/out")"
  rm -f "$MNT/$name".*
}

run sync --ioengine=sync --rw=randwrite --bs=4k --fdatasync=32
run psync --ioengine=psync --rw=randrw --bsrange=512-64k --bs_unaligned --numjobs=2
run append --ioengine=sync --rw=write --bs=17k --file_append=1 --fallocate=none
run pvsync2 --ioengine=pvsync2 --rw=randwrite --bs=16k --fsync=16
run libaio --ioengine=libaio --rw=randwrite --bs=4k --iodepth=16 --direct=1
run libaio-two --ioengine=libaio --rw=randrw --bs=64k --iodepth=8 --direct=1 --numjobs=2
disabled=$(cat /proc/sys/kernel/io_uring_disabled 2>/dev/null || echo 0)
if [ "$disabled" != 2 ]; then
  run io_uring --ioengine=io_uring --rw=randwrite --bs=4k --iodepth=16
  run io_uring-direct --ioengine=io_uring --rw=randrw --bs=8k --iodepth=16 --direct=1 --fsync=64
else
  echo "  io_uring is disabled on this machine (kernel.io_uring_disabled=2)"
fi
run trim --ioengine=sync --rw=write --bs=64k --fallocate=keep
run preallocated --ioengine=psync --rw=randwrite --bs=4k --fallocate=posix

step "negative control: what another hand changes is found"
fio --name=control --directory="$MNT" --size=1m --rw=write --bs=4k --verify=crc32c --do_verify=0 --output="$WORK/out" </dev/null
printf 'damage' | dd of="$MNT/control.0.0" bs=1 seek=70000 conv=notrunc status=none
if fio --name=control --directory="$MNT" --size=1m --rw=read --bs=4k --verify=crc32c --verify_only --output="$WORK/out" </dev/null 2>&1; then
  die "fio does not verify: $(cat "$WORK/out")"
fi
