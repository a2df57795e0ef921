#!/usr/bin/env bash
# Runs a command where a recent Emscripten is: here, if this machine has one, else in a folder with
# Debian 13's, which it makes first and enters by chroot.
#
#   platforms/web/toolchain.sh COMMAND...
#
# In there the command sees this checkout, at the same path, and Debian 13's programs. That needs root, apt
# and an archive that apt knows of or MOKA_WEB_MIRROR names. MOKA_WEB_ROOT is the folder, by default
# /var/tmp/moka-web; 2.5 GB. Packages are unpacked and nothing else: no script of theirs runs.
# shellcheck source=cmake/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../cmake/setup.sh"

oldest=3.1.50 # Debian 12's 3.1.6 lacks the libraries for exceptions of WebAssembly
root=${MOKA_WEB_ROOT:-/var/tmp/moka-web}
# base-files has the links of a merged /usr, which must be there before anything else.
packages=(base-files libc-bin bash dash coreutils sed grep findutils tar gzip xz-utils
  emscripten cmake ninja-build nlohmann-json3-dev libcli11-dev libxxhash-dev)

# Whether this machine's own will do.
native() {
  command -v emcc >/dev/null || return 1
  local version
  version=$(emcc -dumpversion 2>/dev/null) || return 1
  [[ $(printf '%s\n' "$oldest" "${version%%-*}" | sort -V | head -n 1) == "$oldest" ]]
}

archive() {
  if [[ -n ${MOKA_WEB_MIRROR:-} ]]; then
    echo "${MOKA_WEB_MIRROR%/}"
    return
  fi
  # shellcheck disable=SC2016  # apt's names, not the shell's
  apt-get indextargets --format '$(LABEL) $(SITE)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 == "Debian" { sub("/$", "", $2); print $2; exit }'
}

make_root() {
  [[ $EUID -eq 0 ]] || fail "Emscripten $oldest or newer is not installed, and a chroot with one needs root"
  command -v apt-get >/dev/null || fail "Emscripten $oldest or newer is not installed, and there is no apt"
  # A folder that is not ours is left alone; a half-made one of ours is made again.
  if [[ -e $root && ! -e $root/.moka-web && -n $(ls -A "$root") ]]; then
    fail "$root is not empty, and this script did not make it"
  fi
  local mirror apt=$root/var/cache/moka-apt
  mirror=$(archive) || true
  [[ -n $mirror ]] || fail "apt knows of no Debian archive; MOKA_WEB_MIRROR can name one"
  rm -rf "$root"
  mkdir -p "$apt"/{lists,archives}/partial
  : >"$root/.moka-web"
  : >"$apt/status"
  echo "deb $mirror trixie main" >"$apt/sources.list"
  # An own apt: nothing is installed there, so it downloads all that the packages need. A mirror may
  # serve a snapshot, whose Release file is past its date.
  cat >"$apt/apt.conf" <<END
Dir::State "$apt";
Dir::State::status "$apt/status";
Dir::State::Lists "$apt/lists";
Dir::Cache "$apt";
Dir::Cache::Archives "$apt/archives";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "-";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
END
  local get=(env APT_CONFIG="$apt/apt.conf" apt-get -q -y)
  say "Getting Debian 13's Emscripten into $root, 400 MB"
  with_progress "${get[@]}" update || fail "apt-get update failed; the whole output is in $log"
  with_progress "${get[@]}" --download-only install "${packages[@]}" ||
    fail "the packages cannot be downloaded; the whole output is in $log"
  local package
  for package in "$apt"/archives/base-files_*.deb "$apt"/archives/*.deb; do
    [[ $package != *lib?san[0-9]*.deb && $package != *libhwasan*.deb ]] || continue
    dpkg-deb --extract "$package" "$root" || fail "$package cannot be unpacked"
  done
  rm -rf "$apt"
  echo made >"$root/.moka-web"
}

if native; then
  exec "$@"
fi
[[ $(cat "$root/.moka-web" 2>/dev/null) == made ]] || make_root
# The mounts are seen by this command alone and go with it.
deps=$(realpath -m "${MOKA_DEPS_DIR:-.deps}")
export MOKA_DEPS_DIR=$deps
mkdir -p "$deps" "$root$PWD" "$root$deps" "$root/proc" "$root/dev" "$root/tmp"
# shellcheck disable=SC2016  # expanded by the inner shell
exec unshare -m bash -c '
  set -e
  root=$1 deps=$2
  shift 2
  mount --bind "$PWD" "$root$PWD"
  mount --bind "$deps" "$root$deps"
  mount -t proc proc "$root/proc" 2>/dev/null || true
  mount --bind /dev "$root/dev"
  export PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8
  exec chroot "$root" bash -c "cd \"\$1\" && shift && exec \"\$@\"" chroot "$PWD" "$@"
' unshare "$root" "$deps" "$@"
