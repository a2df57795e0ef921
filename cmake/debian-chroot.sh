#!/bin/sh
# Makes a chroot of a Debian suite with packages in it, for what this machine's suite has not got.
#
#   debian-chroot.sh DIR SUITE PACKAGE...
#
# Needs root. A second run finishes what is missing and changes nothing else. The archive is the one
# that this machine's apt is configured with; MOKA_DEBIAN_MIRROR=URL names another.
set -eu

say() { echo "debian-chroot.sh: $*" >&2; }
die() {
  say "$*"
  exit 1
}

[ $# -ge 2 ] || die "usage: debian-chroot.sh DIR SUITE PACKAGE..."
case $1 in
  / | '') die "DIR is '$1': the chroot needs a folder of its own" ;;
  /*) root=$1 ;;
  *) root=$(pwd)/$1 ;;
esac
suite=$2
shift 2
[ "$(id -u)" -eq 0 ] || die "debootstrap and chroot need root; run it as root"

# The Debian archive of the apt configuration; archives of other labels (security, or another
# distribution) do not have every suite.
mirror=${MOKA_DEBIAN_MIRROR:-}
if [ -z "$mirror" ]; then
  command -v apt-get >/dev/null ||
    die "there is no apt here to take an archive's address from; set MOKA_DEBIAN_MIRROR=URL"
  # shellcheck disable=SC2016  # apt's names, not the shell's
  mirror=$(apt-get indextargets --format '$(LABEL) $(SITE)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 == "Debian" { print $2; exit }')
fi
[ -n "$mirror" ] || die "apt is configured with no Debian archive; set MOKA_DEBIAN_MIRROR=URL"
mirror=${mirror%/}
mark=$root/.moka-chroot  # "SUITE" once it is made

debootstrap_once() {
  mkdir -p "$root"
  : >"$mark"
  debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$mirror" \
    >"$root/.debootstrap.log" 2>&1
}

bootstrap() {
  if ! command -v debootstrap >/dev/null; then
    say "installing debootstrap"
    apt-get -q update >/dev/null || die "apt-get update failed"
    DEBIAN_FRONTEND=noninteractive apt-get -q -y install debootstrap >/dev/null ||
      die "debootstrap cannot be installed"
  fi
  # A folder that is not ours is left alone; a half-made one of ours is gone on with, or made again.
  if [ -e "$root" ] && [ ! -e "$mark" ] && [ -n "$(ls -A "$root")" ]; then
    die "$root is not empty, and this script did not make it"
  fi
  say "debootstrap of $suite into $root, some minutes"
  debootstrap_once || {
    say "debootstrap failed, once more from the start"
    rm -rf "$root"
    debootstrap_once
  } || {
    tail -n 5 "$root/.debootstrap.log" >&2
    die "debootstrap failed; all it said is in $root/.debootstrap.log"
  }
  echo "deb $mirror $suite main" >"$root/etc/apt/sources.list"
  # A mirror may serve a snapshot, whose Release file is past its date.
  echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90moka"
  apt-config dump | grep -E '^Acquire::https?::[Pp]roxy ' >>"$root/etc/apt/apt.conf.d/90moka" || :
  # What is lost in a power cut is made again.
  echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/moka"
  # Packages must not start services here.
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
  echo "$suite" >"$mark"
}

installed() { # PACKAGE
  # shellcheck disable=SC2016  # dpkg's name, not the shell's
  [ "$(chroot "$root" dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

case $(cat "$mark" 2>/dev/null) in
  "$suite") ;;
  '') bootstrap ;;
  *) die "$root is a chroot of $(cat "$mark"), not of $suite" ;;
esac

missing=
for package; do
  installed "$package" || missing="$missing $package"
done
if [ -n "$missing" ]; then
  cp -L /etc/resolv.conf "$root/etc/resolv.conf" || say "no /etc/resolv.conf; names may not resolve"
  say "installing$missing"
  # shellcheck disable=SC2086  # a list of names
  if ! { chroot "$root" apt-get -q update &&
    chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
      install $missing && chroot "$root" apt-get clean; } >"$root/.install.log" 2>&1; then
    tail -n 5 "$root/.install.log" >&2
    die "the chroot cannot install$missing; all that apt said is in $root/.install.log"
  fi
fi
