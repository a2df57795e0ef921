#!/bin/sh
# Unpack the pinned sources of Moka's native dependencies.
#
#   fetch-sources.sh DIR [NAME...]     make DIR/NAME for each name (all without names)
#   fetch-sources.sh --list            print the names
#
# Each name has several lines in the manifest below; the first that can be had
# wins. The upstream forge comes first and is asked with curl or wget. Where it
# cannot be reached, which the first failure tells for the whole run, Debian's
# archive is asked instead: through apt's own download helper, at the address
# apt is configured with, so mirrors and proxies apply and no list of source
# packages has to be enabled. Every archive is checked against its SHA-256
# before it is unpacked, and a tree appears under its name only when complete.
#
# Environment:
#   MOKA_DISTFILES       folder of downloaded archives, looked at first; new
#                        downloads are kept there
#   MOKA_UPSTREAM=off    do not ask the upstream forges
#   MOKA_ARCHIVE_BASE    address of a Debian archive, instead of asking apt
set -eu
LC_ALL=C
export LC_ALL
umask 022

say() { echo "fetch-sources: $*" >&2; }
die() { say "error: $*"; exit 1; }

# name | address, or path in Debian's archive | SHA-256 | a file it must hold
# Debian removes superseded files, hence second versions: their interfaces and
# results are the same for what Moka uses. utf8proc's second version knows
# characters of a later Unicode, which only matters to text that uses them.
manifest() {
  cat <<'END'
xnnpack|https://github.com/google/XNNPACK/archive/4ea82e595b36106653175dcb04b2aa532660d0d8.tar.gz|3ef066f2f9b8ac474cd3fd606c601a30bbab59a56406c69019610339f02b6032|include/xnnpack.h
xnnpack|pool/main/x/xnnpack/xnnpack_0.0~git20241108.4ea82e5.orig.tar.xz|90bde2caef0f880f627bab0dc805a86c4b8070cd98e3243db3046ab3f3be1a99|include/xnnpack.h
pthreadpool|https://github.com/Maratyszcza/pthreadpool/archive/560c60d342a76076f0557a3946924c6478470044.tar.gz|8d8ebab96df6aa12922643060e72c43bfdca9fd80cf5aacaf7391bc6850560a3|include/pthreadpool.h
pthreadpool|pool/main/p/pthreadpool/pthreadpool_0.0~git20240616.560c60d.orig.tar.xz|4cc3cbd933b28131d2a34edc54f76af9fb41bc490af5eae1a5bd3cd07ea90708|include/pthreadpool.h
cpuinfo|https://github.com/pytorch/cpuinfo/archive/877328f188a3c7d1fa855871a278eb48d530c4c0.tar.gz|5ceb68cc713cebd0a299f6f852ce6fed2dd80b62510f6e5e82cbbdc8fa91b710|include/cpuinfo.h
cpuinfo|pool/main/c/cpuinfo/cpuinfo_0.0~git20250905.877328f.orig.tar.xz|557ca404a3836b9f335a3a06b65ff9fe9dbaaefab7fb5c0185f53d9f33615a10|include/cpuinfo.h
cpuinfo|pool/main/c/cpuinfo/cpuinfo_0.0~git20250327.39ea79a.orig.tar.xz|2a10028948f7f0663c56cc34405484391ee3d7ccdf09fe51d73897937b99d9d4|include/cpuinfo.h
fxdiv|https://github.com/Maratyszcza/FXdiv/archive/b408327ac2a15ec3e43352421954f5b1967701d1.tar.gz|9ccf554541666b5c089ad5dd465141d671c99971f36d72f313652f5c49ffce14|include/fxdiv.h
fxdiv|pool/main/f/fxdiv/fxdiv_0.0~git20200417.b408327.orig.tar.xz|7953482badaf4cb34026c3487c257b8e4ab2df061c019bd6fabbbc12ad52c44b|include/fxdiv.h
flatbuffers|https://github.com/google/flatbuffers/archive/v23.5.26.tar.gz|1cce06b17cddd896b6d73cc047e36a254fb8df4d7ea18a46acf16c4c0cd3f3f3|include/flatbuffers/flatbuffers.h
flatbuffers|pool/main/f/flatbuffers/flatbuffers_23.5.26+dfsg.orig.tar.xz|0d309fd2c47bbbebd450e68d1419c336d53d1b8f5ce47e1f1f7f28f452fc6f3b|include/flatbuffers/flatbuffers.h
doctest|https://github.com/doctest/doctest/archive/v2.4.11.tar.gz|632ed2c05a7f53fa961381497bf8069093f0d6628c5f26286161fbd32a560186|doctest/doctest.h
doctest|pool/main/d/doctest/doctest_2.4.11.orig.tar.gz|632ed2c05a7f53fa961381497bf8069093f0d6628c5f26286161fbd32a560186|doctest/doctest.h
utf8proc|https://github.com/JuliaStrings/utf8proc/archive/v2.8.0.tar.gz|a0a60a79fe6f6d54e7d411facbfcc867a6e198608f2cd992490e46f04b1bcecc|utf8proc.c
utf8proc|pool/main/u/utf8proc/utf8proc_2.8.0.orig.tar.gz|a0a60a79fe6f6d54e7d411facbfcc867a6e198608f2cd992490e46f04b1bcecc|utf8proc.c
utf8proc|pool/main/u/utf8proc/utf8proc_2.11.3.orig.tar.gz|abfed50b6d4da51345713661370290f4f4747263ee73dc90356299dfc7990c78|utf8proc.c
zstd|https://github.com/facebook/zstd/releases/download/v1.5.7/zstd-1.5.7.tar.gz|eb33e51f49a15e023950cd7825ca74a4a2b43db8354825ac24fc1b7ee09e6fa3|lib/zstd.h
zstd|pool/main/libz/libzstd/libzstd_1.5.7+dfsg.orig.tar.xz|0c092ef267edce57ba7f3f2645c861f72eaf5e76273c6c3632869423464b90a5|lib/zstd.h
zstd|pool/main/libz/libzstd/libzstd_1.5.4+dfsg2.orig.tar.xz|8cf4bbb65e77ec348d052c8d6230eba66d435bddf64c8b5be2fcb16880c19953|lib/zstd.h
lodepng|https://github.com/lvandeve/lodepng/archive/b4ed2cd7ecf61d29076169b49199371456d4f90b.tar.gz|b67e466ba659c07ac775d07dbd97af319cde449ce14abed9ae596df29d888603|lodepng.cpp
lodepng|pool/main/l/lodepng/lodepng_0.0~git20220618.b4ed2cd.orig.tar.gz|05f77ea901f980025056b80baca482fef6cbdf9551af0dd40b65013feecbca95|lodepng.cpp
END
}
names() { manifest | cut -d'|' -f1 | uniq; }

[ $# -ge 1 ] || die "usage: fetch-sources.sh DIR [NAME...]"
if [ "$1" = --list ]; then names; exit 0; fi
dest=$1
shift
# shellcheck disable=SC2046  # names are words
[ $# -gt 0 ] || set -- $(names)

# macOS has shasum where Linux has sha256sum.
if command -v sha256sum >/dev/null 2>&1; then
  sha256() { sha256sum <"$1" | cut -d' ' -f1; }
else
  sha256() { shasum -a 256 <"$1" | cut -d' ' -f1; }
fi

mkdir -p "$dest" 2>/dev/null || die "cannot make the folder '$dest'"
[ -w "$dest" ] || die "cannot write to '$dest'"
dest=$(cd "$dest" && pwd)

# A tree is complete when it carries the hash of one of its name's archives.
is_present() { # NAME
  [ -f "$dest/$1/.source-sha256" ] &&
    manifest | grep "^$1|" | grep -qF "|$(cat "$dest/$1/.source-sha256")|"
}

missing=
for name in "$@"; do
  names | grep -qxF -- "$name" || die "unknown source '$name'; --list prints those there are"
  is_present "$name" || missing="$missing $name"
done
[ -n "$missing" ] || exit 0

for tool in tar gzip xz; do
  command -v "$tool" >/dev/null 2>&1 || die "'$tool' is missing; install the package of that name (Debian: xz-utils for xz)"
done
work=$(mktemp -d "$dest/.fetch.XXXXXX") || die "cannot make a temporary folder in '$dest'"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- upstream ----------------------------------------------------------------
upstream=${MOKA_UPSTREAM:-on}
from_upstream() { # ADDRESS FILE
  [ "$upstream" = on ] || return 1
  status=0
  if command -v curl >/dev/null 2>&1; then
    curl -fsSL --connect-timeout 5 --speed-limit 1000 --speed-time 20 -o "$2" "$1" 2>"$work/log" || status=$?
    [ $status -ne 22 ] || { say "no longer there: $1"; return 1; } # 22: the server answered, with an error
  elif command -v wget >/dev/null 2>&1; then
    wget -q --tries=1 --connect-timeout=5 --read-timeout=20 -O "$2" "$1" 2>"$work/log" || status=$?
    [ $status -ne 8 ] || { say "no longer there: $1"; return 1; }
  else
    status=127
  fi
  [ $status -ne 0 ] || return 0
  upstream=off
  case $status in
    127) say "neither curl nor wget is installed: using Debian's archive" ;;
    *) say "upstream cannot be reached: using Debian's archive" ;;
  esac
  return 1
}

# --- Debian's archive --------------------------------------------------------
helper=
for h in /usr/lib/apt/apt-helper /usr/libexec/apt/apt-helper; do
  [ ! -x "$h" ] || helper=$h
done

# The address of the distribution's main suite: not security, not updates, not a
# third party. Origin and codename are known once package lists were downloaded;
# before that, the configured sources have to do. Raspberry Pi OS of 32 bits
# calls itself Raspbian and keeps the same pool.
archive_base() {
  [ -n "${MOKA_ARCHIVE_BASE:-}" ] && { echo "${MOKA_ARCHIVE_BASE%/}"; return; }
  # shellcheck disable=SC2016  # apt expands these, not the shell
  {
    apt-get indextargets --format '$(REPO_URI)|$(ORIGIN)|$(CODENAME)|$(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
      awk -F'|' '($2 == "Debian" || $2 == "Raspbian") && $3 !~ /-/ && $4 == "main" { print $1 }'
    apt-get indextargets --no-release-info --format '$(REPO_URI)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
      awk -F'|' '$2 !~ /[-\/]/ && $3 == "main" && $1 ~ /\/(debian|raspbian)\/?$/ { print $1 }'
  } | sed -n '1s,/$,,p'
}

base=
from_archive() { # POOL-PATH SHA256 FILE
  [ -n "$helper" ] || { say "no apt on this system, so no Debian archive either"; return 1; }
  [ -n "$base" ] || base=$(archive_base)
  [ -n "$base" ] || { say "apt knows of no Debian archive; run 'apt-get update' or set MOKA_ARCHIVE_BASE"; return 1; }
  address=$base/$(printf %s "$1" | sed 's/~/%7e/g; s/+/%2b/g')
  for attempt in 1 2 3; do
    rm -f "$3"
    # The helper drops to user _apt when run as root, who may not write here.
    if "$helper" -o Acquire::Retries=2 -o APT::Sandbox::User=root download-file "$address" "$3" "SHA256:$2" >"$work/log" 2>&1; then
      return 0
    fi
    ! grep -q 404 "$work/log" || { say "the archive no longer has ${1##*/}"; return 1; }
    [ "$attempt" = 3 ] || sleep 2
  done
  sed 's/^/    /' "$work/log" >&2
  return 1
}

# --- one archive, one tree ---------------------------------------------------
fetch() { # NAME WHERE SHA256 FILE
  kept=
  if [ -n "${MOKA_DISTFILES:-}" ]; then
    kept=$MOKA_DISTFILES/$1-$(printf %.16s "$3").${2##*.tar.} # same file, whatever it is called where it comes from
    if [ -f "$kept" ]; then
      [ "$(sha256 "$kept")" = "$3" ] || die "'$kept' is damaged; remove it"
      cp "$kept" "$4"
      return 0
    fi
  fi
  case $2 in
    https://*) from_upstream "$2" "$4" || return 1 ;;
    *) from_archive "$2" "$3" "$4" || return 1 ;;
  esac
  if [ "$(sha256 "$4")" != "$3" ]; then
    say "refused, its SHA-256 is not the pinned one: $2"
    return 1
  fi
  if [ -n "$kept" ]; then
    mkdir -p "$MOKA_DISTFILES"
    cp "$4" "$kept.$$" && mv "$kept.$$" "$kept"
  fi
}

unpack() { # NAME FILE SHA256 PROOF
  tree=$work/$1
  mkdir "$tree"
  tar -xf "$2" -C "$tree" --no-same-owner || die "$1: cannot unpack its archive; is the disk full?"
  # Most archives hold one top folder, Debian's of XNNPACK holds none.
  root=$tree
  [ "$(find "$tree" -mindepth 1 -maxdepth 1 | wc -l)" -ne 1 ] || root=$(find "$tree" -mindepth 1 -maxdepth 1)
  [ -f "$root/$4" ] || die "$1: its archive has no $4"
  printf '%s\n' "$3" >"$root/.source-sha256"
  if is_present "$1"; then return 0; fi # another run was quicker
  if [ -e "$dest/$1" ]; then
    [ -f "$dest/$1/.source-sha256" ] || die "'$dest/$1' was not made by this script; move it away"
    rm -rf "${dest:?}/$1"
  fi
  mv "$root" "$dest/$1"
}

for name in $missing; do
  manifest | grep "^$name|" >"$work/lines"
  got=
  while IFS='|' read -r _ where sha proof <&3; do
    if fetch "$name" "$where" "$sha" "$work/archive"; then
      unpack "$name" "$work/archive" "$sha" "$proof"
      got=$where
      break
    fi
  done 3<"$work/lines"
  [ -n "$got" ] || die "$name: none of its archives can be had. Is there a network? Without one, give MOKA_DISTFILES (archives) or MOKA_DEPS_SOURCE_DIR (unpacked trees)"
  say "$name: ${got##*/}"
done
