#!/bin/bash
# sqlite3 under the shim: WAL among processes, whose index they map shared, and mmap_size for the database itself.
. "$(dirname "$0")/../programs/common.sh"
need sqlite3
cd "$MNT"
sql() { "$BIN/pmfs" run -- sqlite3 -cmd '.timeout 30000' -cmd 'pragma mmap_size=268435456' "$@"; }
rows=$(by_length 200 10000)
inserts() {  # FIRST COUNT: each a transaction
  awk -v first="$1" -v n="$2" 'BEGIN { for (i = first; i < first + n; ++i) printf "insert into t values (%d, %c%s%c);\n", i, 39, "row " i, 39 }'
}

step "WAL, two writers and a reader at once, the database mapped"
[ "$(sql a.db 'pragma journal_mode=wal' | tail -1)" = wal ] || die "WAL is refused"
sql a.db 'create table t (id integer primary key, v text); create index tv on t (v);' >/dev/null
inserts 0 "$rows" | sql a.db >/dev/null &
first=$!
inserts 1000000 "$rows" | sql a.db >/dev/null &
second=$!
for _ in 1 2 3 4 5; do sql a.db 'select count(*), sum(length(v)) from t' >/dev/null || die "a reader fails"; done
wait "$first"
wait "$second"
[ "$(sql a.db 'select count(*) from t' | tail -1)" = $((2 * rows)) ] || die "rows are missing"
[ "$(sql a.db 'pragma integrity_check' | tail -1)" = ok ] || die "integrity"
step "checkpoint, vacuum, and the whole file read through its mapping"
sql a.db 'pragma wal_checkpoint(truncate); vacuum; pragma integrity_check' | tail -1 | grep -qx ok || die "after vacuum"
