#!/bin/bash
# cmake --install: programs are built against what it installs, by find_package and by pkg-config, and run on a live volume; the
# library exports what its headers declare; DESTDIR is respected.
#
#   install_test.sh BUILD_DIR
. "$(dirname "$0")/common.sh"
trap 'rm -rf "$work"' EXIT

prefix=$work/usr
step "install"
quietly cmake --install "$build" --prefix "$prefix"
for f in bin/pmfs bin/pmfs-torture sbin/mount.fuse.pmfs include/pmfs/pmfs.h include/pmfs/pmfs.hpp share/man/man1/pmfs.1 \
  share/man/man1/pmfs-torture.1 share/man/man3/libpmfs.3 share/man/man7/pmfs_preload.7 \
  share/bash-completion/completions/pmfs lib/systemd/system/pmfs@.service; do
  [ -s "$prefix/$f" ] || die "$f is not installed"
done
grep -q "^ExecStart=$prefix/bin/pmfs " "$prefix/lib/systemd/system/pmfs@.service" || die "the unit does not name $prefix"
lib=$(dirname "$(find "$prefix" -name libpmfs.so)")
[ -n "$lib" ] && [ -s "$lib/libpmfs_preload.so" ] || die "no library"
[ "$(readlink "$lib/libpmfs.so")" = libpmfs.so.0 ] || die "libpmfs.so is not libpmfs.so.0"
if [ -n "$(find "$prefix" -name '*.a')" ]; then die "a static library is installed"; fi
/usr/bin/python3 "$root/tests/install/symbols.py" "$lib/libpmfs.so.0" "$prefix/include" || die "symbols"

step "find_package"
quietly cmake -S "$root/docs/examples/project" -B "$work/found" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF
quietly cmake --build "$work/found"
for example in c_client cpp_client; do
  readelf -d "$work/found/$example" | grep 'NEEDED.*\[libpmfs.so.0\]' >/dev/null || die "$example does not need libpmfs.so.0"
  ldd "$work/found/$example" | grep "libpmfs.so.0 => $lib/" >/dev/null || die "$example finds another library: $(ldd "$work/found/$example")"
  run_example "$prefix" "$work/found" "$example"
done
# Another version is not taken for this one.
sed 's/find_package(pmfs 0.1/find_package(pmfs 99/' "$root/docs/examples/project/CMakeLists.txt" >"$work/CMakeLists.txt"
if cmake -S "$work" -B "$work/other" -DCMAKE_PREFIX_PATH="$prefix" >"$work/out" 2>&1; then die "version 99 was found"; fi
grep -q 'version: 0.1' "$work/out" || die "says nothing of its version: $(cat "$work/out")"

step "pkg-config"
PKG_CONFIG_PATH=$lib/pkgconfig quietly make -f "$root/docs/examples/project/Makefile" BUILD="$work/made"
for example in c_client cpp_client; do
  LD_LIBRARY_PATH=$lib run_example "$prefix" "$work/made" "$example"
done

step "DESTDIR"
DESTDIR=$work/stage quietly cmake --install "$build" --prefix /opt/pmfs
(cd "$prefix" && find . | sort) >"$work/by-prefix"
(cd "$work/stage/opt/pmfs" && find . | sort) >"$work/by-destdir"
cmp "$work/by-prefix" "$work/by-destdir" || die "DESTDIR and a prefix install different files"
[ "$(ls "$work/stage")" = opt ] || die "outside of the prefix: $(ls "$work/stage")"
export PKG_CONFIG_PATH=$work/stage${lib/#$prefix//opt/pmfs}/pkgconfig
[ "$(pkg-config --variable=prefix pmfs)" = /opt/pmfs ] || die "the prefix is $(pkg-config --variable=prefix pmfs)"
quietly env PKG_CONFIG_SYSROOT_DIR="$work/stage" make -f "$root/docs/examples/project/Makefile" BUILD="$work/staged"
echo ok
