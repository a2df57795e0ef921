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

# What an earlier form of this script made is known by another mark.
if [ "$(cat "$root/.moka-peers" 2>/dev/null)" = made ] && [ ! -e "$root/.moka-chroot" ]; then
  echo sid >"$root/.moka-chroot"
fi
MOKA_DEBIAN_MIRROR=${PEERS_MIRROR:-${MOKA_DEBIAN_MIRROR:-}} "$(dirname "$0")/../../../cmake/debian-chroot.sh" \
  "$root" sid llama.cpp llama.cpp-tools llama.cpp-tools-extra python3-gguf python3-numpy

for command in llama-bench llama-quantize llama-completion; do
  chroot "$root" sh -c "command -v $command" >/dev/null ||
    die "$command is missing in $root although its packages are installed"
done
mkdir -p "$root/models"
