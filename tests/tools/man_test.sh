#!/bin/bash
# The manual pages are well formed and leave nothing out: options of pmfs-torture, functions of libpmfs. (pmfs(1) is made by the
# command itself: cli_test.sh.)
#
#   man_test.sh BIN_DIR
set -eu

bin=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
pages=$root/docs/man

die() {
  echo "FAILED: $*" >&2
  exit 1
}
plain() { sed 's/\\-/-/g' "$1"; }  # as it is read
missing() {  # PAGE WORDS...: the words it does not have
  local page=$1 w
  shift
  for w in "$@"; do plain "$page" | grep -qE -- "(^|[^a-z_-])$w([^a-z_-]|\$)" || echo "$w"; done
}

for page in "$pages"/*.[1-8]; do
  complaints=$(groff -man -Tutf8 -ww "$page" 2>&1 >/dev/null) || die "$page: groff fails"
  [ -z "$complaints" ] || die "$page: $complaints"
done

options=$("$bin/pmfs-torture" --help | grep -oE '^  (-h,)?--[a-z-]+' | grep -oE -- '--[a-z-]+' | grep -vx -- --help)
[ "$(wc -w <<<"$options")" -ge 15 ] || die "pmfs-torture --help lists hardly any option"
left=$(missing "$pages/pmfs-torture.1" $options)
[ -z "$left" ] || die "pmfs-torture.1 leaves out: $left"

functions=$(grep -oE '\bpmfs_[a-z0-9_]+\(' "$root/include/pmfs/pmfs.h" | tr -d '(' | sort -u)
[ "$(wc -w <<<"$functions")" -ge 40 ] || die "pmfs.h has hardly any function"
left=$(missing "$pages/libpmfs.3" $functions)
[ -z "$left" ] || die "libpmfs.3 leaves out: $left"

# This check can fail.
[ "$(missing "$pages/libpmfs.3" pmfs_nosuch)" = pmfs_nosuch ] || die "nothing is ever missing"
echo ok
