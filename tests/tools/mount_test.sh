#!/bin/bash
# A volume mounted through FUSE, as its user meets it: ordinary programs, native clients beside them, a manager that is
# killed. Needs root (it mounts) and /dev/fuse.
#
#   mount_test.sh BIN_DIR        (the directory that has pmfs)
set -eu

bin=$(cd "$1" && pwd)
operations=$(cd "$(dirname "$0")/../fuse" && pwd)/operations.py
work=$(mktemp -d /dev/shm/pmfs-mount-XXXXXX)
vol=$work/vol
mnt=$work/mnt

cleanup() {
  umount -l "$mnt" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

die() {
  echo "FAILED: $*" >&2
  [ ! -s "$vol/manager.log" ] || tail -20 "$vol/manager.log" >&2
  exit 1
}
step() { echo "- $*"; }
pmfs() { timeout 60 "$bin/pmfs" "$@"; }
manager() { sed -n 's/^.*pmfs\[\([0-9]*\)\]: .*mounted on.*/\1/p' "$vol/manager.log" | tail -1; }
clean() { pmfs fsck "$vol" >"$work/fsck" || die "fsck: $(cat "$work/fsck")"; }
ends() {  # PID, within 10 s
  for _ in $(seq 200); do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 0.05
  done
  die "process $1 goes on"
}
refuses() {  # WORDS COMMAND...: fails and says so
  local words=$1
  shift
  if "$@" >"$work/out" 2>&1; then die "succeeded: $*"; fi
  grep -qi "$words" "$work/out" || die "$*: does not say '$words': $(cat "$work/out")"
}

[ "$(id -u)" = 0 ] || die "needs root"
[ -c /dev/fuse ] || die "needs /dev/fuse"
mkdir "$mnt"
pmfs mkfs "$vol" --size 128M >/dev/null

step "refusals"
refuses "No such file" pmfs mount "$vol" "$work/nowhere"
refuses "not a directory" pmfs mount "$vol" "$vol/data"
refuses "no pmfs volume is mounted" pmfs umount "$mnt"

step "mount, names, data, attributes"
pmfs mount "$vol" "$mnt"
grep -q "^$vol $mnt fuse.pmfs " /proc/self/mounts || die "not mounted"
refuses "in use\|busy\|served" pmfs mount "$vol" "$mnt"
cd "$mnt"
echo hello >a
mkdir d
mv a d/b
ln d/b d/c
ln -s b d/s
[ "$(cat d/s)" = hello ] || die "through a link: $(cat d/s)"
[ "$(stat -c '%h %s' d/c)" = "2 6" ] || die "stat: $(stat -c '%h %s' d/c)"
refuses "not empty" rmdir d
chmod 640 d/b
touch -d '2001-02-03 04:05:06.123456789 UTC' d/b
[ "$(TZ=UTC stat -c '%a %y' d/b)" = "640 2001-02-03 04:05:06.123456789 +0000" ] || die "attributes: $(stat d/b)"
[ "$(ls -a d | tr '\n' ' ')" = ". .. b c s " ] || die "ls: $(ls -a d)"
echo more >>d/b
[ "$(cat d/c)" = $'hello\nmore' ] || die "append: $(cat d/c)"
python3 - <<'PY' || die "system calls"
import errno, fcntl, mmap, os
os.setxattr("d/b", "user.colour", b"red")
assert os.getxattr("d/b", "user.colour") == b"red" and os.listxattr("d/b") == ["user.colour"]
os.removexattr("d/b", "user.colour")
f = os.open("sparse", os.O_RDWR | os.O_CREAT)
os.pwrite(f, b"x" * 4096, 1 << 40)
assert os.lseek(f, 0, os.SEEK_DATA) == 1 << 40 and os.lseek(f, 1 << 40, os.SEEK_HOLE) == (1 << 40) + 4096
g = os.open("copy", os.O_RDWR | os.O_CREAT)
assert os.copy_file_range(f, g, 4096, 1 << 40, 10) == 4096
assert os.pread(g, 5000, 0) == b"\0" * 10 + b"x" * 4096
fcntl.lockf(g, fcntl.LOCK_EX)
try:
    mmap.mmap(g, 4096)
    raise SystemExit("a shared mmap was not refused")
except OSError as e:
    assert e.errno == errno.ENODEV, e
os.unlink("copy")                      # open and nameless
assert os.pread(g, 1, 10) == b"x" and os.fstat(g).st_nlink == 0
os.posix_fallocate(g, 0, 1 << 20)
assert os.fstat(g).st_blocks >= 2048
try:
    os.mkfifo("fifo")
    raise SystemExit("a FIFO was made")
except OSError as e:
    assert e.errno == errno.EPERM, e
os.mkdir("many")
names = {f"n{i:05}" for i in range(3000)}
for n in names:
    open(f"many/{n}", "w").close()
assert set(os.listdir("many")) == names
PY
fallocate -z -o 0 -l 8192 sparse
refuses "not supported" fallocate -c -o 0 -l 4096 sparse
rm -rf many

step "a tree in, compared, and out again"
cp -a /usr/include/linux tree
diff -r /usr/include/linux tree || die "the copy differs"
rm -rf tree

step "permissions are the kernel's"
cd /
umount "$mnt"  # not ours: the manager ends by itself
for _ in $(seq 200); do pmfs mount "$vol" "$mnt" -o allow_other 2>"$work/err" && break; sleep 0.05; done
grep -q "^$vol $mnt " /proc/self/mounts || die "not mounted again: $(cat "$work/err")"
chmod 755 "$work"
cd "$mnt"
chmod 755 .
echo secret >mine
chmod 600 mine
refuses "Permission denied" setpriv --reuid 65534 --regid 65534 --clear-groups cat "$mnt/mine"
mkdir -m 777 all
setpriv --reuid 65534 --regid 65534 --clear-groups sh -c "echo x >$mnt/all/theirs"
[ "$(stat -c %u:%g all/theirs)" = 65534:65534 ] || die "owner: $(stat -c %u:%g all/theirs)"
chmod 4777 all/theirs
setpriv --reuid 65534 --regid 65534 --clear-groups sh -c "echo y >>$mnt/all/theirs"
[ "$(stat -c %a all/theirs)" = 777 ] || die "a write left the setuid bit: $(stat -c %a all/theirs)"

step "what the kernel believes is so, beside native clients too"
leases=$(dirname "$operations")/leases.py
timeout 100 python3 "$leases" "$mnt" "$bin/pmfs" "$vol" >"$work/out" 2>&1 || die "leases: $(cat "$work/out")"
rm -rf own size old new
cd /
umount "$mnt"
for _ in $(seq 200); do pmfs fsck "$vol" >/dev/null 2>&1 && break; sleep 0.05; done
"$bin/pmfs" serve "$vol" --mount "$mnt" --torture-lease 60 --ready-fd 3 3>"$work/ready" 2>"$work/err" &
careless=$!
for _ in $(seq 400); do [ -s "$work/ready" ] && break; sleep 0.05; done
timeout 100 python3 "$leases" "$mnt" "$bin/pmfs" "$vol" --expect-stale >"$work/out" 2>&1 || die "leases: $(cat "$work/out")"
umount "$mnt"
wait "$careless" || die "served without waiting for leases: $(cat "$work/err")"
for _ in $(seq 200); do pmfs mount "$vol" "$mnt" -o allow_other 2>"$work/err" && break; sleep 0.05; done
cd "$mnt"

step "system calls, one by one; the same on tmpfs, to see that the checks are right"
for where in "$mnt/calls fuse" "$work/calls tmpfs"; do
  mkdir -m 1777 "${where% *}"
  timeout 100 python3 "$operations" ${where} >"$work/out" 2>&1 || die "operations on $where: $(cat "$work/out")"
done

step "locks are of the mount: a bind mount's too"
mkdir "$work/bound"
mount --bind "$mnt" "$work/bound"
exec 7<mine 8<"$work/bound/mine"
flock -x 7
if flock -n -x 8; then die "two at once have an exclusive lock"; fi
exec 7<&-
flock -n -x 8 || die "a lock outlives its descriptor"
exec 8<&-
umount "$work/bound"

step "native clients see the same bytes at once"
echo native >"$work/native"
pmfs cp "$work/native" "$vol:/all/native" >/dev/null
[ "$(cat all/native)" = native ] || die "a native file is not there"
echo longer-by-fuse >all/native
pmfs cp "$vol:/all/native" "$work/back" >/dev/null
[ "$(cat "$work/back")" = longer-by-fuse ] || die "a native client reads: $(cat "$work/back")"
pmfs truncate "$vol:/all/native" --size 6
[ "$(stat -c %s all/native)" = 6 ] || die "the size is cached: $(stat -c %s all/native)"
pmfs rm "$vol:/all/native"
[ ! -e all/native ] || die "a removed name is cached"

step "umount waits for what is open"
exec 7<mine
refuses "busy" pmfs umount "$mnt"
exec 7<&-
cd /
pmfs umount "$mnt"
clean

step "options"
refuses "max_threads" pmfs mount "$vol" "$mnt" -o max_threads=none
refuses "writeback_cache" pmfs mount "$vol" "$mnt" -o ro,writeback_cache
refuses "halt_poll" pmfs mount "$vol" "$mnt" -o halt_poll=yes
refuses "unknown option" pmfs mount "$vol" "$mnt" -o no_such_option
pmfs mount "$vol" "$mnt" -o defaults,ro,noexec,nofail,max_threads=2
grep -q "^$vol $mnt fuse.pmfs ro,.*noexec.*default_permissions" /proc/self/mounts || die "options: $(grep " $mnt " /proc/self/mounts)"
refuses "Read-only" touch "$mnt/mine"
pmfs umount "$mnt"

# In a mount namespace of its own a file stands for the device, and shows what the kernel would have been told: 0 in a train of
# requests, 2,000,000,000 (no constraint) when it is over.
step "idle processors poll in a train of requests, and halt when it is over; never if told so"
for when in always never; do
  : >"$work/latency"
  bin=$bin vol=$vol mnt=$mnt work=$work unshare -m bash -s "$when" <<'SH' || die "halt_poll=$when"
set -eu
mount --make-rprivate /
mount --bind "$work/latency" /dev/cpu_dma_latency
timeout 60 "$bin/pmfs" mount "$vol" "$mnt" -o halt_poll=$1
timeout 60 python3 - "$1" <<'PY'
import os, struct, sys, time

NONE = 2_000_000_000
with open("/dev/cpu_dma_latency", "rb") as f:
    def told():
        words = os.pread(f.fileno(), 1 << 20, 0)
        return struct.unpack(f"{len(words) // 4}i", words)

    file = os.open(os.environ["mnt"] + "/train", os.O_CREAT | os.O_WRONLY)
    trains = 0
    while trains < 20 or (sys.argv[1] == "always" and not told()):
        for _ in range(1000):
            os.pwrite(file, b"x", 0)
        trains += 1
    os.close(file)
    if sys.argv[1] == "never":
        assert told() == (), told()
    else:
        while (words := told())[-1] != NONE:
            time.sleep(0.01)
        assert words == (0, NONE) * (len(words) // 2), words
PY
timeout 60 "$bin/pmfs" umount "$mnt"
SH
done

step "a lazy umount: what is open goes on, then the manager ends"
pmfs mount "$vol" "$mnt"
exec 7<"$mnt/mine" 8>>"$mnt/mine"
pmfs umount --lazy "$mnt"
[ ! -e "$mnt/mine" ] || die "still mounted"
echo again >&8
[ "$(cat <&7 | tail -1)" = again ] || die "an open file does not go on"
exec 7<&- 8>&-
ends "$(manager)"
clean

step "SIGTERM ends the manager, whatever is open; that says so"
pmfs mount "$vol" "$mnt"
exec 7<"$mnt/mine"
kill -TERM "$(manager)"
ends "$(manager)"
refuses "not connected\|aborted" timeout 20 cat <&7
exec 7<&-
clean

step "a manager that is killed: errors, no hangs; mounted again at once"
pmfs mount "$vol" "$mnt"
echo kept >"$mnt/kept"
kill -KILL "$(manager)"
for _ in $(seq 100); do kill -0 "$(manager)" 2>/dev/null || break; sleep 0.05; done
refuses "not connected\|aborted" timeout 20 ls "$mnt"
pmfs mount "$vol" "$mnt"
[ "$(cat "$mnt/kept")" = kept ] || die "after the crash: $(cat "$mnt/kept")"
pmfs umount "$mnt"
clean
echo ok
