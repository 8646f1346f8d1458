# What the scripts of this folder share: source it. A kernel of Debian's, an initramfs with the programs that are wanted, and qemu,
# which computes the guest (TCG: no KVM is needed). The guest says how it is getting on through its second serial port, the
# *channel*: "tick UPTIME" once a second, "exit STATUS" at its end, and what its programs write to $PMFS_VM_CHANNEL.
#
#   guest_packages; guest_kernel            $kernel: folder with boot/ and lib/modules/
#   guest_begin                             $work: a folder of this run, gone at its end
#   guest_add FILE...                       a file, at the same path in the guest, with the shared libraries that it needs
#   guest_finish REGION TIMEOUT COMMAND...  packs the initramfs
#   guest_boot QEMU_ARGS...                 until it ends; $guest_status: the command's, or 125 with a text on stderr. A function
#                                           guest_meanwhile runs beside it and may call guest_cut, which ends it: status "cut"
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

vm=$root/tools/vm
work=
qemu=
beside=()  # processes that go with the guest

guest_cleanup() {
  local status=$?
  trap - EXIT INT TERM
  guest_alone
  if [[ -n $qemu ]]; then
    kill -KILL "$qemu" 2>/dev/null || true
  fi
  if [[ -n $work ]]; then rm -rf -- "$work"; fi
  exit "$status"
}

guest_alone() {
  local p
  for p in "${beside[@]}"; do
    kill "$p" 2>/dev/null || true
    wait "$p" 2>/dev/null || true
  done
  beside=()
}

guest_begin() {
  trap guest_cleanup EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  work=$(mktemp -d "${TMPDIR:-/tmp}/pmfs-vm.XXXXXX")
  tree=$work/tree
  mkdir -p "$tree"/{bin,modules}
}

guest_packages() {
  packages=(qemu-system-x86 busybox-static cpio e2fsprogs xfsprogs ndctl daxctl binutils dpkg-dev)
  install_packages | { grep -v "^all packages are here" || true; } >&2
}

# Unpacked beside the system, never installed. $PMFS_VM_KERNEL: a folder with boot/ and lib/modules/ to take instead.
guest_kernel() {
  local cache=${PMFS_VM_CACHE:-$HOME/.cache/pmfs-vm} name part
  kernel=${PMFS_VM_KERNEL:-}
  if [[ -z $kernel ]]; then
    kernel=$(find "$cache" -mindepth 1 -maxdepth 1 -name 'linux-image-*' 2>/dev/null | sort -V | tail -n 1 || true)
  fi
  if [[ -z $kernel ]]; then
    name=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: //p' | head -n 1 || true)
    if [[ -z $name ]]; then
      as_root apt-get update -qq
      name=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: //p' | head -n 1 || true)
    fi
    [[ -n $name ]] || die "apt knows no linux-image-cloud-amd64; set PMFS_VM_KERNEL to a folder with boot/ and lib/modules/"
    echo "fetching $name into $cache" >&2
    mkdir -p "$cache"
    part=$(mktemp -d "$cache/part.XXXXXX")
    (cd "$part" && apt-get download -qq "$name" 2>log) || die "can't download $name: $(cat "$part/log")"
    mkdir "$part/tree"
    dpkg-deb -x "$part/$name"_*.deb "$part/tree"
    kernel=$cache/$name
    mv "$part/tree" "$kernel" 2>/dev/null || [[ -d $kernel ]]  # another may have been faster
    rm -rf -- "$part"
  fi
  version=$(ls "$kernel/lib/modules")
  [[ -r $kernel/boot/vmlinuz-$version ]] || die "$kernel: has no boot/vmlinuz-$version"
}

guest_add() {
  local file real lib
  for file in "$@"; do
    [[ -e $file ]] || die "$file: is not there"
    file=$(realpath -s -- "$file")
    real=$(realpath -- "$file")
    if [[ -d $real ]]; then
      mkdir -p "$tree$file"
      cp -a -- "$real/." "$tree$file"
      continue
    fi
    mkdir -p "$tree${file%/*}"
    [[ ! -e $tree$file ]] || continue
    if [[ $(head -c 4 "$real") == $'\x7fELF' ]]; then
      strip --strip-debug -o "$tree$file" "$real" 2>/dev/null || cp -- "$real" "$tree$file"
      chmod --reference="$real" "$tree$file"
      while read -r lib; do
        [[ -n $lib ]] && guest_add "$lib"
      done < <(ldd "$real" 2>/dev/null | grep -o '/[^ ]*')
    else
      cp -- "$real" "$tree$file"
    fi
  done
}

# As the POSIX shell in the guest reads it.
quoted() {
  local a
  for a in "$@"; do printf "'%s' " "${a//\'/\'\\\'\'}"; done
}

guest_modules() {
  local m file
  for m in "$@"; do
    file=$(find "$kernel/lib/modules/$version" -name "$m.ko" | head -n 1)
    [[ -n $file ]] || die "$kernel: has no module $m"
    cp -- "$file" "$tree/modules/"
    echo "$m" >>"$tree/modules/order"
  done
}

guest_finish() {  # REGION SECONDS COMMAND...
  local region=$1 seconds=$2
  shift 2
  cp -- "$(command -v busybox)" "$tree/bin/busybox"
  cp -- "$vm/init" "$tree/init"
  mkdir -p "$tree"/{proc,sys,dev,tmp,etc,mnt,run,root,sbin,usr/bin,usr/sbin}
  : >"$tree/modules/order"
  if [[ $region == nvdimm ]]; then
    guest_modules libnvdimm nd_btt nd_pmem nfit device_dax dax_pmem
  elif [[ $region != tmpfs ]]; then
    guest_modules libnvdimm nd_btt nd_pmem nd_e820 device_dax dax_pmem
  fi
  guest_add "$(command -v mke2fs)"
  if [[ $region == xfs || $region == nvdimm ]]; then
    guest_modules crc32c-intel libcrc32c xfs
    guest_add "$(command -v mkfs.xfs)" "$(command -v xfs_io)"
  fi
  guest_modules fuse
  {
    # By their paths: busybox has applets of these names.
    printf 'region=%s\nseconds=%s\nbin=%s\nmke2fs=%s\n' "$region" "$seconds" "$bin" "$(command -v mke2fs)"
    printf 'export %s\n' "${guest_environment[@]}"
  } >"$tree/etc/guest"
  {
    quoted "$@"
    echo
  } >"$tree/etc/command"
  (cd "$tree" && find . -print0 | cpio -0 -o -H newc --quiet -R 0:0) >"$work/initramfs"
  rm -rf -- "$tree"
}

# Kills the guest when nothing more comes of it. Wall seconds decide nothing by themselves: a busy host computes a guest slowly. A
# guest is dead if it has had this much of a processor, or a very long time, without one tick.
guest_watch() {
  local ticks=0 now cpu at=0 since=$SECONDS per_second
  per_second=$(getconf CLK_TCK)
  while sleep 1; do
    cpu=$(awk -v hz="$per_second" '{ sub(/.*\) /, ""); print int(($12 + $13) / hz) }' "/proc/$qemu/stat" 2>/dev/null) || return 0
    now=$(stat -c %s "$work/channel" 2>/dev/null || echo 0)
    if [[ $now != "$ticks" ]]; then
      ticks=$now at=$cpu since=$SECONDS
    elif ((cpu - at > 120 || SECONDS - since > 900)); then
      echo "it showed no sign of life for $((cpu - at)) s of processor time, $((SECONDS - since)) s in all" >"$work/why"
      kill -KILL "$qemu"
      return 0
    fi
  done
}

guest_cut() {
  : >"$work/cut"
  kill -KILL "$qemu"
}

guest_boot() {
  : >"$work/console"
  : >"$work/channel"
  rm -f -- "$work/why" "$work/cut"
  # No wall clock between the instructions: the guest's time goes on with what it has computed (icount), so that a timeout in
  # it means the same on a busy host. With several processors they run side by side instead, and time is the host's.
  local time=(-accel tcg,thread=multi)
  if ((smp == 1)); then time=(-accel tcg -icount "shift=${PMFS_VM_ICOUNT:-3},sleep=off"); fi
  setpriv --pdeathsig KILL qemu-system-x86_64 -nodefaults -no-user-config -display none -nic none -no-reboot \
    "${time[@]}" -cpu max -smp "$smp" \
    -chardev "file,id=console,path=$work/console" -serial chardev:console \
    -chardev "file,id=channel,path=$work/channel" -serial chardev:channel \
    -kernel "$kernel/boot/vmlinuz-$version" -initrd "$work/initramfs" "$@" </dev/null >"$work/qemu" 2>&1 &
  qemu=$!
  disown "$qemu"  # or the shell says "Killed" to our user
  guest_watch &
  beside+=($!)
  if declare -F guest_meanwhile >/dev/null; then
    guest_meanwhile &
    beside+=($!)
  fi
  local clean='s/\r$//'
  if [[ ! -t 1 ]]; then clean+=';s/\x1b\[[0-9;]*m//g'; fi
  tail -n +1 -s 0.2 -f --pid="$qemu" "$work/console" | sed -u "$clean" &
  wait $!  # in the background, so that a signal finds us
  qemu=
  guest_alone
  guest_status=$(tr -d '\r' <"$work/channel" | sed -n 's/^exit //p' | tail -n 1)
  if [[ -z $guest_status && -e $work/cut ]]; then
    guest_status=cut
  elif [[ -z $guest_status ]]; then
    guest_status=125
    {
      if [[ -s $work/why ]]; then
        echo "the guest was ended: $(cat "$work/why")"
      elif grep -q 'Kernel panic' "$work/console"; then
        echo "the guest's kernel panicked: $(grep -m 1 -o 'Kernel panic.*' "$work/console" | tr -d '\r')"
      else
        echo "the guest ended without a word: $(tail -n 3 "$work/qemu")"
      fi
      echo "its last tick: $(tr -d '\r' <"$work/channel" | grep '^tick' | tail -n 1 || true)"
    } >&2
  fi
}

# 2 MiB-aligned pieces of the guest's memory, above 4 GiB, that the kernel takes for persistent: /dev/pmem0 and what becomes
# /dev/dax1.0. Sets $memory_args for guest_boot, and $memmap for the kernel. MiB.
guest_memory() {  # MEMORY FSDAX DEVDAX
  local plain=$1 fsdax=$2 devdax=$3 gap=64
  ((plain >= 256 && plain <= 2048)) || die "--memory $plain: from 256 to 2048"
  ((fsdax % 2 == 0 && devdax % 2 == 0)) || die "--fsdax and --devdax are multiples of 2"
  memory_args=(-M "q35,max-ram-below-4g=${plain}M" -m $((plain + fsdax + gap + devdax)))
  memmap="memmap=${fsdax}M!4096M memmap=${devdax}M!$((4096 + fsdax + gap))M"
}
