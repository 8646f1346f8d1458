# Sourced by the scripts beside it, which on_mount.sh (tests/preload) runs with VOL, MNT, WORK and BIN set. They end with the
# mount empty or not, as they like: it is unmounted and checked after them. PMFS_LONG=1: the long form.
set -euo pipefail

long=${PMFS_LONG:-}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

die() {
  echo "FAILED: $*" >&2
  exit 1
}
step() { echo "- $* ($SECONDS s)"; }
need() {  # PROGRAM...
  local p
  for p in "$@"; do
    command -v "$p" >/dev/null || die "$p is not installed; tools/test installs it"
  done
}
by_length() {  # SHORT LONG: the one that is asked for
  if [ -n "$long" ]; then echo "$2"; else echo "$1"; fi
}
# A clone of this repository, or of one made of its files if they came without it.
clone_of_this() {  # DIR
  if ! git -C "$root" rev-parse -q --verify HEAD >/dev/null 2>&1; then
    mkdir "$WORK/made"
    tar -C "$root" --exclude=./build -cf - . | tar -C "$WORK/made" -xf -
    git -C "$WORK/made" init -q
    git -C "$WORK/made" add -A
    git -C "$WORK/made" -c user.name=t -c user.email=t@example.org commit -qm all
    git clone -q --no-hardlinks "$WORK/made" "$1"
    return
  fi
  git clone -q --no-hardlinks "file://$root" "$1"
}
