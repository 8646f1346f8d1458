#!/bin/bash
# The Debian packages: what they depend on, dpkg -i, programs with what they install, dpkg -r, which leaves nothing. In a mount
# namespace of its own, over copies of /usr, /etc and /var that are thrown away. Needs root, overlayfs and /dev/fuse.
#
#   package_test.sh BUILD_DIR
if [ -z "${PMFS_OWN_NAMESPACE:-}" ]; then PMFS_OWN_NAMESPACE=1 exec unshare -m --propagation private "$0" "$@"; fi
. "$(dirname "$0")/common.sh"
mounted=()
cleanup() {
  umount -l "$work/mnt" 2>/dev/null || true
  for d in "${mounted[@]}"; do umount -l "$d"; done
  rm -rf "$work"
}
trap cleanup EXIT

step "cpack"
(cd "$work" && quietly cpack -G DEB --config "$build/CPackConfig.cmake" -B "$work/packages")
mv "$work"/packages/*.deb "$work"
packages=(libpmfs0 libpmfs-dev pmfs python3-pmfs)
for p in "${packages[@]}"; do [ "$(ls "$work/${p}"_*.deb | wc -l)" = 1 ] || die "no package $p: $(ls "$work")"; done
field() { dpkg-deb -f "$work/$1"_*.deb "$2"; }  # PACKAGE FIELD
needs() {  # PACKAGE OTHER
  field "$1" Depends | tr ',' '\n' | grep -E "^ *$2( |\$)" >/dev/null || die "$1 does not depend on $2: $(field "$1" Depends)"
}
needs libpmfs0 libc6
needs libpmfs0 'libfmt[0-9]+'
needs libpmfs0 libpmem2
needs pmfs libpmfs0
needs pmfs libfuse3-3
needs pmfs libpmemobj1
needs libpmfs-dev libpmfs0
dpkg-deb -I "$work"/libpmfs0_*.deb shlibs | grep -x 'libpmfs 0 libpmfs0 (= [0-9.]*)' >/dev/null || die "libpmfs0 does not say what its users need"

for d in /usr /etc /var; do
  mkdir -p "$work/over$d" "$work/used$d"
  mount -t overlay overlay -o "lowerdir=$d,upperdir=$work/over$d,workdir=$work/used$d" "$d"
  mounted+=("$d")
done
files() { find /usr /etc /lib/systemd -xdev \( -name __pycache__ -prune -o -print \) | grep -v '^/etc/ld.so.cache' | sort; }
if [ -e /usr/bin/pmfs ]; then die "pmfs is installed on this machine; dpkg -r pmfs libpmfs-dev libpmfs0 first"; fi
files >"$work/before"

step "dpkg -i"
quietly dpkg -i "$work"/*.deb
ldconfig -p | grep "libpmfs.so.0 .*=> /" >/dev/null || die "ld.so does not know libpmfs.so.0"
[ "$(command -v pmfs)" ] || die "no command pmfs"
ldd "$(command -v pmfs)" | grep 'libpmfs.so.0 => /.*usr/\|libpmfs.so.0 => /lib' >/dev/null || die "pmfs finds $(ldd "$(command -v pmfs)")"
if LC_ALL=C dpkg -V "${packages[@]}" | grep .; then die "dpkg -V"; fi
mkdir "$work/mnt"
quietly pmfs mkfs "$work/vol" --size 64M
quietly timeout 60 mount -t fuse.pmfs "$work/vol" "$work/mnt"
echo text >"$work/mnt/file"
quietly pmfs run -- /usr/bin/python3 -c "
import mmap, sys
with open('$work/mnt/file', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m: m[:4] = b'TEXT'"
[ "$(cat "$work/mnt/file")" = TEXT ] || die "under the shim: $(cat "$work/mnt/file")"
quietly timeout 60 umount "$work/mnt"
quietly pmfs fsck "$work/vol"

step "programs built with it, where everything is where it is looked for"
quietly cmake -S "$root/docs/examples/project" -B "$work/found"
quietly cmake --build "$work/found"
quietly make -f "$root/docs/examples/project/Makefile" BUILD="$work/made"
for d in found made; do
  for example in c_client cpp_client; do run_example /usr "$work/$d" "$example"; done
done

step "python"
cat >"$work/module.py" <<'PY'
import sys
sys.path.pop(0)
import pmfs
with pmfs.open(sys.argv[1] + ":/python", "w+") as f:
    f.truncate(4096)
    with f.map() as view:
        view[:4] = b"text"
    assert f.read(4, 0) == b"text"
print("read back: straight into the block")
PY
mkdir "$work/python"
printf '#!/bin/sh\nexec /usr/bin/python3 %s "$@"\n' "$work/module.py" >"$work/python/module"
chmod +x "$work/python/module"
run_example /usr "$work/python" module

step "dpkg -r"
# In the wrong order nothing goes.
if dpkg -r libpmfs0 >"$work/out" 2>&1; then die "libpmfs0 went while others need it"; fi
quietly dpkg -r "${packages[@]}"
files >"$work/after"
diff "$work/before" "$work/after" >"$work/out" || die "dpkg -r leaves or takes: $(cat "$work/out")"
if ldconfig -p | grep -q libpmfs; then die "ld.so still knows libpmfs"; fi
echo ok
