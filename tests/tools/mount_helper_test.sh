#!/bin/bash
# mount -t fuse.pmfs, /etc/fstab and the systemd unit, from an installed tree. In a mount namespace of its own, where the
# helpers are in /sbin and fstab is ours. Needs root and /dev/fuse.
#
#   mount_helper_test.sh BUILD_DIR
set -eu

if [ -z "${PMFS_OWN_NAMESPACE:-}" ]; then PMFS_OWN_NAMESPACE=1 exec unshare -m --propagation private "$0" "$@"; fi
build=$(cd "$1" && pwd)
work=$(mktemp -d /dev/shm/pmfs-helper-XXXXXX)
vol=$work/vol
mnt=$work/mnt
prefix=$work/usr

cleanup() {
  umount -l "$mnt" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
die() {
  echo "FAILED: $*" >&2
  exit 1
}
step() { echo "- $*"; }
refuses() {  # WORDS COMMAND...: fails and says so
  local words=$1
  shift
  if "$@" >"$work/out" 2>&1; then die "succeeded: $*"; fi
  grep -qi "$words" "$work/out" || die "$*: does not say '$words': $(cat "$work/out")"
}
mounted() { grep -q "^$vol $mnt fuse.pmfs " /proc/self/mounts; }

step "install"
for part in library runtime; do
  cmake --install "$build" --prefix "$prefix" --component "$part" >"$work/out" || die "install: $(cat "$work/out")"
done
cp -a /sbin/. "$work/sbin"
for helper in mount umount; do ln -s "$prefix/sbin/$helper.fuse.pmfs" "$work/sbin/"; done
mount --bind "$work/sbin" "$(readlink -f /sbin)"
mkdir "$mnt"
"$prefix/bin/pmfs" mkfs "$vol" --size 64M >/dev/null

step "mount -t fuse.pmfs, umount, and again at once"
for round in 1 2 3; do
  timeout 60 mount -t fuse.pmfs "$vol" "$mnt" -o nosuid,log="$work/log",socket_mode=0660
  mounted || die "not mounted"
  [ "$(stat -c %a "$vol/pmfs.sock")" = 660 ] || die "the socket's mode: $(stat -c %a "$vol/pmfs.sock")"
  echo "$round" >"$mnt/file"
  timeout 60 umount "$mnt"  # waits for the manager
done
grep -q "mounted on" "$work/log" || die "no log"
refuses "unknown option" timeout 60 mount -t fuse.pmfs "$vol" "$mnt" -o nonsense

step "/etc/fstab; remount"
echo "$vol $mnt fuse.pmfs defaults,noauto,nofail,_netdev,max_threads=2,x-systemd.automount 0 0" >"$work/fstab"
mount --bind "$work/fstab" /etc/fstab
timeout 60 mount "$mnt"
[ "$(cat "$mnt/file")" = 3 ] || die "another volume"
timeout 60 mount -o remount,ro "$mnt"
refuses "read-only" touch "$mnt/file"
timeout 60 mount -o remount,rw "$mnt"
touch "$mnt/file"
exec 7<"$mnt/file"
refuses "busy" timeout 60 umount "$mnt"
timeout 60 umount -l "$mnt"
if mounted; then die "a lazy umount left the mount"; fi
exec 7<&-
for _ in $(seq 200); do "$prefix/bin/pmfs" fsck "$vol" >"$work/out" 2>&1 && break; sleep 0.05; done  # the manager ends now

step "the unit: readiness as systemd wants it"
unit=$prefix/lib/systemd/system/pmfs@.service
if command -v systemd-analyze >/dev/null; then
  cp "$unit" "$work/pmfs@.service"
  systemd-analyze verify --man=no "$work/pmfs@dev-shm-vol.service" 2>"$work/out" || die "unit: $(cat "$work/out")"
  [ ! -s "$work/out" ] || die "unit: $(cat "$work/out")"
fi
grep -q "^Type=notify" "$unit" || die "the unit does not wait for readiness"
timeout 90 python3 - "$prefix/bin/pmfs" "$vol" "$mnt" "$work" <<'PY' || die "readiness"
import os, socket, subprocess, sys
pmfs, vol, mnt, work = sys.argv[1:]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.settimeout(30)
s.bind(work + "/notify")
p = subprocess.Popen([pmfs, "mount", "--foreground", "-o", "defaults", vol, mnt], stderr=subprocess.DEVNULL,
                     env=os.environ | {"NOTIFY_SOCKET": work + "/notify"})
assert s.recv(100) == b"READY=1"
assert os.path.exists(mnt + "/file")
subprocess.run([pmfs, "umount", mnt], check=True)
assert s.recv(100) == b"STOPPING=1"
assert p.wait(30) == 0
PY
"$prefix/bin/pmfs" fsck "$vol" >"$work/out" || die "fsck: $(cat "$work/out")"
echo ok
