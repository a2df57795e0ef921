#!/usr/bin/env bash
# Compile the runtime and the C interface as Apple's compiler would, as far as that goes elsewhere: with
# clang and its own C++ library, once as they are, and once
#   - without the branches for Linux, with those for Apple's systems, whose few calls are declared here;
#   - with 64-bit integers of type long long, which size_t is not there;
#   - with the branches for iPhones.
# Syntax and warnings alone, nothing is made. Needs clang and libc++; root of the sources as the folder.
#
#   platforms/apple/check-sources.sh [CLANG]     clang++ when it is left out
set -euo pipefail
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
clang=${1:-clang++}
sources=${MOKA_DEPS_SOURCE_DIR:-.deps/src}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

includes=(-isystem "$sources/xnnpack/include" -isystem "$sources/pthreadpool/include"
  -isystem "$sources/cpuinfo/include" -isystem "$sources/utf8proc"
  -isystem "$sources/flatbuffers/include")
options=(-std=c++17 -stdlib=libc++ -fsyntax-only -Wall -Wextra -Wpedantic -Wshadow -Wconversion
  -Wno-sign-conversion -Werror -DXXH_INLINE_ALL= -DUTF8PROC_STATIC -D_LIBCPP_REMOVE_TRANSITIVE_INCLUDES)

check() { # WHAT ROOT OPTION...
  local root=$2 failed=0 file count=0
  for file in "$root"/runtime/*.cc "$root"/runtime/*/*.cc "$root"/platforms/capi/*.cc; do
    count=$((count + 1))
    "$clang" "${options[@]}" "${@:3}" -I"$root" -I"$root/runtime/include" \
      -I"$root/platforms/capi/include" "${includes[@]}" "$file" || failed=$((failed + 1))
  done
  echo "$1: $count files, $failed with errors"
  ((failed == 0 && count > 100))
}

check "clang and libc++" "$PWD"

# The same for another system, whose macros and types are given other names here.
mkdir -p "$work/tree/platforms" "$work/system/bits" "$work/system/sys"
cp -r runtime schema "$work/tree/"
cp -r platforms/capi "$work/tree/platforms/"
find "$work/tree" -type f -exec sed -i \
  -e 's/__linux__/MOKA_NOT_THIS_SYSTEM/g' -e 's/__APPLE__/MOKA_THIS_SYSTEM/g' {} +
types=$(find /usr/include -path '*bits/types.h' | head -n 1)
sed -e 's/\(typedef signed\) long int __int64_t/\1 long long int __int64_t/' \
  -e 's/\(typedef unsigned\) long int __uint64_t/\1 long long int __uint64_t/' \
  "$types" >"$work/system/bits/types.h"
grep -q 'unsigned long long int __uint64_t' "$work/system/bits/types.h"
echo '#define TARGET_OS_IPHONE MOKA_IPHONE' >"$work/system/TargetConditionals.h"
cat >"$work/system/sys/sysctl.h" <<'H'
#include <stddef.h>
extern "C" int sysctlbyname(const char*, void*, size_t*, void*, size_t);
H
cat >"$work/system/sys/mount.h" <<'H'
#include <stdint.h>
#define MNT_LOCAL 0x1000
struct statfs { uint32_t f_flags; };
extern "C" int fstatfs(int, struct statfs*);
H
other=(-isystem "$work/system" -DMOKA_THIS_SYSTEM -D__UINT64_TYPE__="unsigned long long"
  -D__INT64_TYPE__="long long" -DF_FULLFSYNC=51 -Wno-builtin-macro-redefined -Wno-macro-redefined)
check "as on a Mac" "$work/tree" "${other[@]}" -DMOKA_IPHONE=0
check "as on an iPhone" "$work/tree" "${other[@]}" -DMOKA_IPHONE=1
