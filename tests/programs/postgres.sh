#!/bin/bash
# PostgreSQL on the mount, as an unprivileged user: initdb with checksums, pgbench, a crash, recovery, every page checked.
. "$(dirname "$0")/common.sh"
bindir=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -n "$bindir" ] || die "PostgreSQL is not installed; tools/test installs it"
need setpriv
scale=$(by_length 1 10)
time=$(by_length 4 120)
user=nobody

as() { setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups env -C / HOME="$WORK/home" PGHOST="$WORK/home" PGUSER=t PGDATABASE=t "$@"; }
chmod 755 "$WORK"
mkdir -m 700 "$WORK/home" "$MNT/pg"
chown "$user" "$WORK/home" "$MNT/pg"
data=$MNT/pg/data
stop() { as "$bindir/pg_ctl" -D "$data" -w -t 60 stop -m "${1:-immediate}" >"$WORK/out" 2>&1; }
trap 'stop || true' EXIT
start() {
  as "$bindir/pg_ctl" -D "$data" -w -t 60 -l "$WORK/home/log" -o "-c listen_addresses= -k $WORK/home" start >"$WORK/out" 2>&1 </dev/null ||
    die "start: $(cat "$WORK/out" "$WORK/home/log")"
}
value() { as psql -XAtqc "$1"; }

step initdb
as "$bindir/initdb" -D "$data" -U t -A trust -k --no-instructions >"$WORK/out" 2>&1 || die "initdb: $(cat "$WORK/out")"
step start
start
as "$bindir/createdb" t
step "pgbench"
as "$bindir/pgbench" -i -q -s "$scale" >"$WORK/out" 2>&1 || die "pgbench -i: $(cat "$WORK/out")"
as "$bindir/pgbench" -n -c 4 -j 2 -T "$time" >"$WORK/out" 2>&1 || die "pgbench: $(cat "$WORK/out")"
grep "tps = \|actually processed" "$WORK/out"
before=$(value 'select count(*) from pgbench_history')

step "a crash under load, and recovery"
as "$bindir/pgbench" -n -c 4 -j 2 -T 60 >"$WORK/load" 2>&1 &
load=$!
for _ in $(seq 200); do [ "$(value 'select count(*) from pgbench_history')" -gt "$before" ] && break; sleep 0.05; done
stop immediate || die "stop: $(cat "$WORK/out")"
wait "$load" || true
start
[ "$(value 'select count(*) from pgbench_history')" -gt "$before" ] || die "committed transactions are missing"
# Each transaction adds the same to one account, one teller, one branch and the history (which pgbench without -n empties).
sums=$(value 'select (select sum(abalance) from pgbench_accounts) || $$ $$ || (select sum(tbalance) from pgbench_tellers) || $$ $$ ||
  (select sum(bbalance) from pgbench_branches) || $$ $$ || (select sum(delta) from pgbench_history)')
[ "$(tr ' ' '\n' <<<"$sums" | sort -u | wc -l)" = 1 ] || die "half a transaction is there: $sums"
as "$bindir/vacuumdb" -q --full t
[ "$(value 'select count(*) from pgbench_accounts')" = $((scale * 100000)) ] || die "accounts are missing"
stop fast || die "stop: $(cat "$WORK/out")"
step "every page's checksum"
as "$bindir/pg_checksums" --check -D "$data" >"$WORK/out" 2>&1 || die "checksums: $(cat "$WORK/out")"
grep "Blocks scanned\|Bad checksums" "$WORK/out"
rm -rf "$MNT/pg"
