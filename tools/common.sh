# Shared by the scripts of this folder: source it. Sets $root (the tree) and moves there.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
jobs=${PMFS_JOBS:-$(nproc)}

packages=(libpmem2-dev libpmem-dev libpmemobj-dev libboost-dev catch2 libcli11-dev libfmt-dev libspdlog-dev
  nlohmann-json3-dev libbenchmark-dev libfuse3-dev fuse3 cmake ninja-build g++ pkg-config clang python3
  spin gcc groff sqlite3 git rsync fio stress-ng postgresql lmdb-utils python3-numpy dpkg-dev
  file make libclang-rt-dev e2fsprogs)

say() { printf '\n=== %s\n' "$*"; }
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "needs root or sudo for: $*"
  fi
}

# Installs what is missing of $packages; asks the network only then.
install_packages() {
  command -v dpkg-query >/dev/null || {
    echo "no dpkg here: install yourself what CMakeLists.txt looks for" >&2
    return 0
  }
  local missing=() p
  for p in "${packages[@]}"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null || true) == installed ]] || missing+=("$p")
  done
  if ((${#missing[@]} == 0)); then
    echo "all packages are here"
    return 0
  fi
  echo "installing: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

configure() {  # PRESET
  local launcher=(-DPMFS_PCH=ON)
  if command -v ccache >/dev/null; then
    launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_C_COMPILER_LAUNCHER=ccache -DPMFS_PCH=OFF)
  fi
  local log
  if ! log=$(cmake --preset "$1" "${launcher[@]}" 2>&1); then
    printf '%s\n' "$log" >&2
    die "cmake --preset $1 failed"
  fi
}

build() {  # PRESET [TARGET...]
  local preset=$1
  shift
  cmake --build "build/$preset" -j "$jobs" ${1:+--target "$@"}
}

# What a client of a pmfs volume needs of the kernel; explains what is missing.
check_kernel() {
  local release major minor
  release=$(uname -r)
  major=${release%%.*}
  minor=${release#*.}
  minor=${minor%%[!0-9]*}
  ((major > 6 || (major == 6 && minor >= 4))) || die "needs Linux 6.4 or newer, this is $release"
  [[ -r /dev/userfaultfd && -w /dev/userfaultfd ]] ||
    die "needs read and write access to /dev/userfaultfd (run as root, or: chmod 0666 /dev/userfaultfd)"
  [[ -d /dev/shm && -w /dev/shm ]] || die "needs a writable tmpfs at /dev/shm"
}
