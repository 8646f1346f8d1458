#!/bin/bash
# Runs a command with a fresh volume mounted through FUSE; then unmounts, and the volume must be clean. Fails as the command
# does, or if any of that does. Needs root and /dev/fuse.
#
#   on_mount.sh BIN_DIR SIZE COMMAND...      the command finds VOL, MNT, WORK (an empty directory on tmpfs) and BIN set
#
# A command that hangs is ended after 15 minutes (PMFS_LONG=1: 45), and the others have their turn.
set -u

BIN=$(cd "$1" && pwd)
size=$2
shift 2
WORK=$(mktemp -d /dev/shm/pmfs-on-mount-XXXXXX)
VOL=$WORK/vol MNT=$WORK/mnt
export BIN WORK VOL MNT
cleanup() {
  umount -l "$MNT" 2>/dev/null
  rm -rf "$WORK"
}
trap cleanup EXIT
die() {
  echo "FAILED: $*" >&2
  [ ! -s "$VOL/manager.log" ] || tail -20 "$VOL/manager.log" >&2
  exit 1
}
[ "$(id -u)" = 0 ] || die "needs root"
[ -c /dev/fuse ] || die "needs /dev/fuse"
mkdir "$MNT"
"$BIN/pmfs" mkfs "$VOL" --size "$size" >/dev/null || die mkfs
timeout 30 "$BIN/pmfs" mount "$VOL" "$MNT" -o allow_other </dev/null || die mount
timeout -k 10 $([ -n "${PMFS_LONG:-}" ] && echo 45m || echo 15m) "$@" || die "$* exited with $?"
timeout 60 "$BIN/pmfs" umount "$MNT" || die umount
timeout 120 "$BIN/pmfs" fsck "$VOL" >"$WORK/fsck" || die "fsck: $(cat "$WORK/fsck")"
