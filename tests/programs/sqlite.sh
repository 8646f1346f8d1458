#!/bin/bash
# sqlite3 on the mount: rollback journal, several writers, one of them killed; WAL with an exclusive lock. WAL among
# processes maps its index shared, which only the preload shim can do: refused, nothing is damaged.
. "$(dirname "$0")/common.sh"
need sqlite3
cd "$MNT"
rows=$(by_length 300 10000)

sql() { sqlite3 -cmd '.timeout 30000' "$@"; }
sound() {  # FILE
  [ "$(sql "$1" 'pragma integrity_check')" = ok ] || die "$1: $(sql "$1" 'pragma integrity_check' | head -5)"
}
inserts() {  # FIRST COUNT: each a transaction
  awk -v first="$1" -v n="$2" 'BEGIN { for (i = first; i < first + n; ++i) printf "insert into t values (%d, %c%s%c);\n", i, 39, "row " i, 39 }'
}

step "rollback journal, two writers at once"
sql a.db 'create table t (id integer primary key, v text); create index tv on t (v);'
inserts 0 "$rows" | sql a.db &
first=$!
inserts 1000000 "$rows" | sql a.db
wait "$first"
[ "$(sql a.db 'select count(*) from t')" = $((2 * rows)) ] || die "rows are missing: $(sql a.db 'select count(*) from t')"
sound a.db

step "a writer that is killed: its transaction is rolled back by the next"
mkfifo "$WORK/in"
sqlite3 a.db <"$WORK/in" >/dev/null 2>&1 &
victim=$!
exec 7>"$WORK/in"
{
  echo 'pragma cache_size = 5; begin;'
  inserts 2000000 20000
  echo '.shell touch '"$WORK"'/written'
} >&7
for _ in $(seq 600); do [ -e "$WORK/written" ] && break; sleep 0.05; done
[ -e "$WORK/written" ] || die "sqlite3 does not get on"
[ -s a.db-journal ] || die "there is no hot journal to test with"
kill -KILL "$victim"
exec 7>&-
wait "$victim" || true
[ "$(sql a.db 'select count(*) from t where id >= 2000000')" = 0 ] || die "half a transaction is there"
sound a.db

step "WAL, exclusive; killed, and recovered"
for round in 1 2; do
  rm -f "$WORK/written"
  sqlite3 b.db <"$WORK/in" >/dev/null 2>&1 &
  victim=$!
  exec 7>"$WORK/in"
  {
    echo 'pragma locking_mode = exclusive; pragma journal_mode = wal; create table if not exists t (id integer primary key, v text);'
    inserts "${round}0000000" "$rows"
    echo '.shell touch '"$WORK"'/written'
  } >&7
  for _ in $(seq 1200); do [ -e "$WORK/written" ] && break; sleep 0.05; done
  [ -e "$WORK/written" ] || die "sqlite3 does not get on"
  [ -s b.db-wal ] || die "there is no WAL"
  kill -KILL "$victim"
  exec 7>&-
  wait "$victim" || true
  n=$(sqlite3 -cmd 'pragma locking_mode = exclusive' b.db 'select count(*) from t' | tail -1)
  [ "$n" = $((round * rows)) ] || die "$n rows after WAL recovery, of $((round * rows))"
done
sqlite3 -cmd 'pragma locking_mode = exclusive' b.db 'pragma wal_checkpoint(truncate); pragma journal_mode = delete' >/dev/null
sound b.db

step "WAL among processes needs a shared mmap: refused"
if sql b.db 'pragma journal_mode = wal; insert into t values (1, 1)' >"$WORK/out" 2>&1; then die "was not refused"; fi
sqlite3 -cmd 'pragma locking_mode = exclusive' b.db 'pragma journal_mode = delete' >/dev/null
sound b.db
