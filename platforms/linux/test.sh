#!/usr/bin/env bash
# Packages as their users meet them: platforms/linux/test.sh [PART...]
#
#   build      packages of both architectures
#   lint       lintian over them, shellcheck over these scripts
#   bookworm   a fresh Debian 12: install, use, build against, remove, purge
#   trixie     the same on Debian 13
#   arm64      the same on Debian 12 for arm64, emulated
#   static     the one-file command in a chroot with nothing but /proc and /sys, both architectures
#   kernels    which kernels a Raspberry Pi 4 and a Raspberry Pi 5 choose, emulated
#
# Without an argument all of them. Needs root, for chroot and debootstrap, a network with a Debian
# archive (the one that apt is configured with; MOKA_ARCHIVE_BASE=URL names another), and about
# 3 GB in build/. Fresh systems are made once, kept as archives and unpacked for each run.
# shellcheck source=cmake/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../cmake/setup.sh"
umask 022

all=(build lint bookworm trixie arm64 static kernels)
parts=("$@")
[[ $# -gt 0 ]] || parts=("${all[@]}")
for part in "${parts[@]}"; do
  [[ " ${all[*]} " == *" $part "* ]] || fail "there is no part '$part'; there are: ${all[*]}"
done
[[ $EUID -eq 0 ]] || fail "chroot and debootstrap need root; run it as root"
native=$(dpkg --print-architecture)
roots=$PWD/build/linux-roots
mkdir -p "$roots"

needs+='
debootstrap    debootstrap
lintian        lintian
shellcheck     shellcheck
man            man-db
qemu-aarch64-static  qemu-user-static
'

# ---- fresh systems -------------------------------------------------------------------------------

# The address of the Debian archive of apt's configuration.
archive_base() {
  [[ -z ${MOKA_ARCHIVE_BASE:-} ]] || { echo "${MOKA_ARCHIVE_BASE%/}"; return; }
  # shellcheck disable=SC2016  # apt's names, not the shell's
  apt-get indextargets --format '$(LABEL) $(SITE)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 == "Debian" { sub("/$", "", $2); print $2; exit }'
}

make_devices() { # FOLDER
  local name major minor
  while read -r name major minor; do
    rm -f "$1/$name"
    mknod -m 666 "$1/$name" c "$major" "$minor"
  done <<<$'null 1 3\nzero 1 5\nfull 1 7\nrandom 1 8\nurandom 1 9\ntty 5 0\nconsole 5 1\nptmx 5 2'
}

# fresh_root SUITE ARCH: a system with compilers, from its archive, in $roots/SUITE-ARCH.
fresh_root() {
  local root=$roots/$1-$2 kept=$roots/$1-$2.tar
  rm -rf --one-file-system "$root"
  if [[ ! -f $kept ]]; then
    setup_packages debootstrap
    mkdir -p "$root"
    local base foreign=()
    base=$(archive_base)
    [[ -n $base ]] || fail "apt is configured with no Debian archive; set MOKA_ARCHIVE_BASE=URL"
    [[ $2 == "$native" ]] || foreign=(--foreign)
    say "debootstrap of $1, $2"
    # It mounts /proc and /sys in the new system: in a namespace they end with it, whatever happens.
    with_progress unshare --mount debootstrap --arch="$2" --variant=minbase "${foreign[@]}" \
      --include=ca-certificates "$1" "$root" "$base" || fail "debootstrap of $1 failed; see $log"
    if [[ ${#foreign[@]} -gt 0 ]]; then
      # A namespace may not make devices: they are there before, and debootstrap is told so.
      make_devices "$root/dev"
      with_progress in_root "$2" "$root" env container=lxc /debootstrap/debootstrap --second-stage ||
        fail "debootstrap's second stage failed; see $log and $root/debootstrap"
    fi
    echo "deb $base $1 main" >"$root/etc/apt/sources.list"
    # A mirror may serve a snapshot, whose Release file is past its date.
    echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90moka"
    apt-config dump | grep -E '^Acquire::https?::[Pp]roxy ' >>"$root/etc/apt/apt.conf.d/90moka" || :
    # Packages must not start services here.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    # What the test needs, but nothing of what the packages must bring by themselves.
    with_progress in_root "$2" "$root" sh -c 'apt-get -q update && DEBIAN_FRONTEND=noninteractive \
      apt-get -q -y --no-install-recommends install gcc g++ cmake make pkg-config man-db bash-completion' ||
      fail "the compilers could not be installed in $root; see $log"
    tar -C "$root" -cf "$kept.$$" . && mv "$kept.$$" "$kept"
  else
    mkdir -p "$root"
    tar -C "$root" -xf "$kept"
  fi
}

# in_root ARCH ROOT COMMAND...: chroot, with /proc and /sys that go with the command; for another
# architecture by way of qemu, which the kernel is told of in a namespace of this command's own, so
# that nothing changes for the machine.
in_root() {
  local arch=$1 root=$2
  shift 2
  # shellcheck disable=SC2016  # the inner shell's
  if [[ $arch == "$native" ]]; then
    unshare --mount --pid --fork bash -c 'mount -t proc proc "$1/proc" && mount --rbind /sys "$1/sys" &&
      exec env -i '"$plain"' chroot "$@"' \
      native "$root" "$@"
  else
    in_namespace bash -c 'mount -t binfmt_misc none /proc/sys/fs/binfmt_misc &&
      printf %s "$1" >/proc/sys/fs/binfmt_misc/register && mount -t proc proc "$2/proc" &&
      mount --rbind /sys "$2/sys" && shift && exec env -i '"$plain"' chroot "$@"' \
      emulated "$binfmt" "$root" "$@"
  fi
}
# Nothing of the settings of whoever runs this comes along.
plain='HOME=/root TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
# The first bytes of a program for 64-bit Arm; F opens qemu here and now, outside of the chroot.
binfmt=':moka-arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:F'

apart() { # PID: it has a user namespace of its own
  local theirs
  theirs=$(readlink "/proc/$1/ns/user") && [[ -n $theirs && $theirs != $(readlink /proc/self/ns/user) ]]
}

# Runs a command as root of a user namespace with the same users as outside. The command waits until
# its users are named: only who is outside may name more than one.
in_namespace() { # COMMAND...
  local gate pid status=0
  gate=$(mktemp -d)
  mkfifo "$gate/open"
  # shellcheck disable=SC2016  # the inner shell's
  unshare --user --mount --pid --fork bash -c 'read -r _ <"$0/open" && exec "$@"' "$gate" "$@" &
  pid=$!
  until apart "$pid"; do
    kill -0 "$pid" 2>/dev/null || return 1
    sleep 0.05
  done
  echo "0 0 65536" >"/proc/$pid/uid_map" && echo "0 0 65536" >"/proc/$pid/gid_map" && echo >"$gate/open"
  wait "$pid" || status=$?
  rm -rf "$gate"
  return "$status"
}

can_emulate() {
  setup_packages qemu-aarch64-static
  in_namespace mount -t binfmt_misc none /proc/sys/fs/binfmt_misc 2>/dev/null
}

have_packages() { # ARCH
  compgen -G "build/packages-$1/packages/*.deb" >/dev/null ||
    { say "error: build/packages-$1 has no packages; platforms/linux/build.sh $1 makes them"; return 1; }
}

# Installs and uses the packages of ARCH in a fresh SUITE.
system_test() { # SUITE ARCH
  local root=$roots/$1-$2
  have_packages "$2" || return 1
  fresh_root "$1" "$2"
  mkdir -p "$root/packages"
  cp build/packages-"$2"/packages/*_"$2".deb build/packages-"$2"/packages/*_all.deb "$root/packages"
  cp platforms/linux/test_inside.sh "$root/packages"
  in_root "$2" "$root" bash /packages/test_inside.sh || return 1
  rm -rf --one-file-system "$root"
}

# ---- parts ---------------------------------------------------------------------------------------

lint_packages() {
  setup_packages lintian
  lintian --allow-root --fail-on error,warning --tag-display-limit 0 \
    build/packages-*/packages/*.deb
}

lint_scripts() {
  setup_packages shellcheck
  shellcheck -x platforms/linux/*.sh .ci/platforms
}

# The program, a model, and /proc and /sys, from which XNNPACK learns the CPU: nothing else is there.
static_test() { # ARCH
  local root=$roots/static-$1 emulator=()
  rm -rf --one-file-system "$root"
  mkdir -p "$root/proc" "$root/sys"
  cp build/packages-"$1"/packages/moka-static-* "$root/moka"
  cp models/stories.moka "$root"
  if [[ $1 != "$native" ]]; then
    setup_packages qemu-aarch64-static
    cp "$(command -v qemu-aarch64-static)" "$root/qemu"
    emulator=(/qemu)
  fi
  local text
  text=$(in_root "$native" "$root" ${emulator[@]+"${emulator[@]}"} /moka run /stories.moka \
    -p "Once upon a time" -n 8 --seed 1) || return 1
  rm -rf --one-file-system "$root"
  say "$text"
  [[ $text == "Once upon a time"?* ]]
}

# What `moka --version` says on a CPU: a Pi 4 (Cortex-A72) has no dot product, a Pi 5 (A76) has.
chooses() { # CPU PRODUCTS
  setup_packages qemu-aarch64-static
  local said
  said=$(qemu-aarch64-static -cpu "$1" build/packages-arm64/packages/moka-static-*-arm64 --version) ||
    return 1
  say "$said"
  [[ $said == *"neon (in use)"* ]] &&
    [[ $(sed -n 's/^products  *//p' <<<"$said") == "$2" ]]
}

for part in "${parts[@]}"; do
  case $part in
    build)
      run_check "packages for $native" platforms/linux/build.sh
      [[ $native == arm64 ]] || run_check "packages for arm64" platforms/linux/build.sh arm64
      ;;
    lint)
      run_check "lintian" lint_packages
      run_check "shellcheck" lint_scripts
      ;;
    bookworm | trixie) run_check "$part" system_test "$part" "$native" ;;
    arm64)
      if [[ $native == arm64 ]]; then
        say "skipped: arm64 is what bookworm and trixie are here"
      elif can_emulate; then
        run_check "bookworm for arm64, emulated" system_test bookworm arm64
      else
        say "skipped: this kernel lets no namespace have binfmt_misc of its own (Linux 6.7 does)"
      fi
      ;;
    static)
      run_check "static, $native" static_test "$native"
      [[ $native == arm64 ]] || run_check "static, arm64" static_test arm64
      ;;
    kernels)
      run_check "Cortex-A72 (Raspberry Pi 4) multiplies with neon" chooses cortex-a72 neon
      run_check "Cortex-A76 (Raspberry Pi 5) multiplies with neon_dot" chooses cortex-a76 neon_dot
      run_check "all that qemu has multiplies with neon_dot" chooses max neon_dot
      ;;
  esac
done
print_totals
