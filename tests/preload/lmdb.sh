#!/bin/bash
# LMDB on the mount: loaded, dumped, read while it is written, by Debian's tools under the shim.
. "$(dirname "$0")/../programs/common.sh"
need mdb_load mdb_stat mdb_dump
cd "$MNT"
shim() { "$BIN/pmfs" run -- "$@"; }
entries=$(by_length 5000 200000)

records() {  # FIRST COUNT: as mdb_load -T reads them
  printf 'VERSION=3\nformat=print\ntype=btree\nmapsize=134217728\nHEADER=END\n'
  awk -v first="$1" -v n="$2" 'BEGIN { for (i = first; i < first + n; ++i) printf " key%08d\n value-%d-%0100d\n", i, i, i }'
  echo DATA=END
}
count() { shim mdb_stat "$1" | awk '/Entries:/ {print $2}'; }

step "load, stat, dump"
mkdir db
records 0 "$entries" | shim mdb_load db
[ "$(count db)" = "$entries" ] || die "$(count db) entries of $entries"
shim mdb_dump -p db | grep -c '^ key' | grep -qx "$entries" || die "the dump lacks entries"
step "a second writer beside readers"
records "$entries" "$entries" | shim mdb_load db &
writer=$!
for _ in 1 2 3 4 5; do [ "$(count db)" -ge "$entries" ] || die "a reader sees $(count db)"; done
wait "$writer"
[ "$(count db)" = $((2 * entries)) ] || die "$(count db) entries in the end"
step "a reload of the dump is the same"
mkdir copy
shim mdb_dump db >"$WORK/dump"
shim mdb_load copy <"$WORK/dump"
shim mdb_dump copy | cmp - "$WORK/dump" || die "the copy differs"
step "without the shim it is refused, not wrong"
if mdb_stat db >/dev/null 2>&1; then die "mdb_stat mapped a file on the mount without the shim"; fi
