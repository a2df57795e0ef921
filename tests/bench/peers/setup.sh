#!/bin/sh
# Makes a Debian sid chroot in DIR with llama.cpp, python3-gguf and numpy.
#
#   setup.sh DIR
#
# Needs root. A second run finishes what is missing and changes nothing else. The archive is the one
# that this machine's apt is configured with; PEERS_MIRROR=URL names another.
set -eu

say() { echo "setup.sh: $*" >&2; }
die() {
  say "$*"
  exit 1
}

[ $# -eq 1 ] || die "usage: setup.sh DIR"
case $1 in
  / | '') die "DIR is '$1': the chroot needs a folder of its own" ;;
  /*) root=$1 ;;
  *) root=$(pwd)/$1 ;;
esac
[ "$(id -u)" -eq 0 ] || die "debootstrap and chroot need root; run it as root"

packages='llama.cpp llama.cpp-tools llama.cpp-tools-extra python3-gguf python3-numpy'

# The Debian archive of the apt configuration; archives of other labels (security, or another
# distribution) do not have sid.
mirror=${PEERS_MIRROR:-}
if [ -z "$mirror" ]; then
  command -v apt-get >/dev/null ||
    die "there is no apt here to take an archive's address from; set PEERS_MIRROR=URL"
  # shellcheck disable=SC2016  # apt's names, not the shell's
  mirror=$(apt-get indextargets --format '$(LABEL) $(SITE)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 == "Debian" { print $2; exit }')
fi
[ -n "$mirror" ] || die "apt is configured with no Debian archive; set PEERS_MIRROR=URL"
mirror=${mirror%/}

bootstrap() {
  if ! command -v debootstrap >/dev/null; then
    say "installing debootstrap"
    apt-get -q update >/dev/null || die "apt-get update failed"
    DEBIAN_FRONTEND=noninteractive apt-get -q -y install debootstrap >/dev/null ||
      die "debootstrap cannot be installed"
  fi
  # A folder that is not ours is left alone; a half-made one of ours is made again.
  if [ -e "$root" ] && [ ! -e "$root/.moka-peers" ] && [ -n "$(ls -A "$root")" ]; then
    die "$root is not empty, and this script did not make it"
  fi
  rm -rf "$root"
  mkdir -p "$root"
  : >"$root/.moka-peers"
  say "debootstrap of sid into $root, some minutes"
  debootstrap --variant=minbase --include=ca-certificates sid "$root" "$mirror" \
    >"$root/.debootstrap.log" 2>&1 || {
    tail -n 5 "$root/.debootstrap.log" >&2
    die "debootstrap failed; all it said is in $root/.debootstrap.log"
  }
  echo "deb $mirror sid main" >"$root/etc/apt/sources.list"
  # A mirror may serve a snapshot, whose Release file is past its date.
  echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90moka-peers"
  apt-config dump | grep -E '^Acquire::https?::[Pp]roxy ' \
    >>"$root/etc/apt/apt.conf.d/90moka-peers" || :
  # Packages must not start services here.
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
  echo made >"$root/.moka-peers"
}

installed() { # PACKAGE
  # shellcheck disable=SC2016  # dpkg's name, not the shell's
  [ "$(chroot "$root" dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

[ "$(cat "$root/.moka-peers" 2>/dev/null)" = made ] || bootstrap

missing=
for package in $packages; do
  installed "$package" || missing="$missing $package"
done
if [ -n "$missing" ]; then
  cp -L /etc/resolv.conf "$root/etc/resolv.conf" || say "no /etc/resolv.conf; names may not resolve"
  say "installing$missing"
  # shellcheck disable=SC2086  # a list of names
  if ! { chroot "$root" apt-get -q update &&
    chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
      install $missing; } >"$root/.install.log" 2>&1; then
    tail -n 5 "$root/.install.log" >&2
    die "the chroot cannot install$missing; all that apt said is in $root/.install.log"
  fi
fi
for command in llama-bench llama-quantize llama-completion; do
  chroot "$root" sh -c "command -v $command" >/dev/null ||
    die "$command is missing in $root although its packages are installed"
done
mkdir -p "$root/models"
