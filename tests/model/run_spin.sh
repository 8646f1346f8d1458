#!/usr/bin/env bash
# run_spin.sh WANT MODEL [DEFINE...]: verifies a model and passes when spin's verdict is WANT:
#   holds      no error, safety and progress, every state visited
#   violated   an assertion fails (P1)
#   deadlock   a state without a way on
#   livelock   a cycle without progress
# A search that was cut short (depth, memory, hashing) is a failure whatever it found, unless it found the error asked for.
set -euo pipefail
want=$1
model=$(realpath "$2")
shift 2
command -v spin >/dev/null || { echo "spin is not here; install it: apt-get install spin" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
defines=()
for d in "$@"; do defines+=("-D$d"); done

search() {  # safety|progress COMPILER-FLAGS... -- PAN-FLAGS...
  local out=$1 flags=()
  shift
  while [[ $1 != -- ]]; do flags+=("$1"); shift; done
  shift
  spin -a "${defines[@]}" $([[ $out == progress ]] && echo -DPROGRESS) "$model" >spin.out 2>&1 || { cat spin.out >&2; exit 1; }
  gcc $([[ $want == holds ]] && echo -O2 || echo -O0) -w -DMEMLIM=3000 -DVECTORSZ=2048 "${flags[@]}" -o pan pan.c
  ./pan -m1000000 "$@" >"$out" 2>&1 || true
  grep -E 'errors:|states, stored|depth reached|pan:' "$out"
}

complete() {  # FILE
  grep -q 'Full statespace search' "$1" && grep -q 'errors: 0' "$1" &&
    ! grep -qiE 'search not completed|max search depth too small|out of memory|reached -DMEMLIM|hash-?compact|bit ?state' "$1"
}

found() { grep -q "$2" "$1" || { echo "not what was asked for ($want):" >&2; cat "$1" >&2; exit 1; }; }

case $want in
  holds)
    search safety -DSAFETY --
    complete safety || { cat safety >&2; exit 1; }
    search progress -DNP -DNOFAIR -- -l
    complete progress || { cat progress >&2; exit 1; }
    ;;
  violated)
    search safety -DSAFETY --
    found safety 'assertion violated'
    ;;
  deadlock)
    search safety -DSAFETY --
    found safety 'invalid end state'
    ;;
  livelock)
    search progress -DNP -DNOFAIR -- -l
    found progress 'non-progress cycle'
    ;;
  *)
    echo "run_spin.sh: no such verdict: $want" >&2
    exit 2
    ;;
esac
echo "$want, as it should: $(basename "$model") $*"
