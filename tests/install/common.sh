# Sourced by the tests of this folder, with a build directory as the first argument. Sets build, root, work.
set -euo pipefail

build=$(cd "$1" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d /dev/shm/pmfs-install-XXXXXX)

die() {
  echo "FAILED: $*" >&2
  exit 1
}
step() { echo "- $* ($SECONDS s)"; }
quietly() {  # COMMAND...: its output only if it fails
  "$@" >"$work/out" 2>&1 || die "$*: $(cat "$work/out")"
}
# Runs the example in that directory with the command `pmfs` that is installed in PREFIX.
run_example() {  # PREFIX DIRECTORY EXAMPLE
  ln -sf "$1/bin/pmfs" "$2/pmfs"
  timeout 60 "$root/docs/examples/run" "$2" "$3" >"$work/out" 2>&1 || die "$3: $(cat "$work/out")"
  grep -q "read back: straight into the block" "$work/out" || die "$3: says $(cat "$work/out")"
}
