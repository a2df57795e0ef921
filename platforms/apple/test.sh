#!/usr/bin/env bash
# Build and test the Swift package, and what else of platforms/apple can be tried without a Mac.
#
#   platforms/apple/test.sh [--chroot DIR] [FILTER]     as in platforms/apple/test.sh ReplyTests
#
# With Swift 6 here, that is used. Else DIR, /var/tmp/moka-swift when it is left out, becomes a chroot of
# Debian 13, whose swiftlang it is (root, 3 GB; the first time some minutes).
# shellcheck source=cmake/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../cmake/setup.sh"

chroot=/var/tmp/moka-swift filter=''
while (($# > 0)); do
  case $1 in
    --chroot)
      (($# > 1)) || fail "--chroot needs a folder"
      chroot=$2
      shift
      ;;
    -*) fail "$1 is no option; usage: test.sh [--chroot DIR] [FILTER]" ;;
    *) filter=$1 ;;
  esac
  shift
done

# ---- what Swift needs of this machine --------------------------------------------

setup_packages pydoc3
setup_build moka moka_c moka_c_static moka_cli
build=build/apple
mkdir -p "$build"
cmake --install build/release --prefix "$PWD/$build/prefix" >"$build/install.log" ||
  fail "the library could not be installed: $build/install.log"
rm -rf "$build/fixtures"
run_check "what the tests compare with" python3 platforms/apple/tests/make_fixtures.py \
  build/release/moka "$build/fixtures"

# ---- where there is Swift --------------------------------------------------------

has_swift() {
  [[ $(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\).*/\1/p') -ge 6 ]]
}
if has_swift; then
  tree=$PWD scratch=$PWD/$build/swift deps=$PWD/.deps
  inside() { env "$@"; }
else
  # libstdc++ is what Swift's C++ half links; the rest is for check-sources.sh.
  packages=(swiftlang libstdc++-14-dev pkgconf clang libc++-dev libxxhash-dev)
  cmake/debian-chroot.sh "$chroot" trixie "${packages[@]}" || fail "there is no Swift; see above"
  chroot=$(cd "$chroot" && pwd)
  mkdir -p "$chroot/moka" "$chroot/moka-deps"
  tree=/moka scratch=/var/tmp/moka-swift deps=/moka-deps
  # In a mount namespace of its own, so that nothing stays mounted.
  inside() {
    # shellcheck disable=SC2016  # the inner shell's parameters
    unshare -m sh -c 'root=$1 tree=$2 deps=$3; shift 3
      mount -t proc proc "$root/proc" && mount --bind /dev "$root/dev" &&
      mount --bind "$tree" "$root/moka" && mount --bind "$deps" "$root/moka-deps" || exit 1
      exec chroot "$root" env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin "$@"' \
      sh "$chroot" "$PWD" "$(readlink -f .deps)" "$@"
  }
fi
pkgconfig=$(dirname "$(find "$build/prefix" -name moka-c.pc)")
configuration=("PKG_CONFIG_PATH=$tree/$pkgconfig" "LD_LIBRARY_PATH=$tree/${pkgconfig%/*}"
  "DYLD_LIBRARY_PATH=$tree/${pkgconfig%/*}" "MOKA_FIXTURES=$tree/$build/fixtures"
  MOKA_SYSTEM_LIBRARY=1)
# Swift 6.0's libraries for Linux name a function that none of them has, for the end of a process alone.
linking=()
[[ $(uname) != Linux ]] || linking=(-Xlinker --allow-shlib-undefined)
swift_in() { # SUBCOMMAND PACKAGE ARGUMENT...
  inside "${configuration[@]}" swift "$1" --package-path "$tree/$2" \
    --scratch-path "$scratch/${2//\//-}" ${linking[@]+"${linking[@]}"} "${@:3}"
}

# ---- tests -----------------------------------------------------------------------

package=platforms/apple
run_tests "XCFramework script, with stand-ins for Apple's tools" python3 $package/tests/test_xcframework.py
if command -v shellcheck >/dev/null; then
  run_check "shellcheck" shellcheck -x $package/*.sh cmake/debian-chroot.sh
fi
run_check "C++ sources with clang and libc++, as on a Mac and an iPhone" inside \
  "MOKA_DEPS_SOURCE_DIR=$deps/src" "$tree/$package/check-sources.sh"
run_check "Swift package, in Swift 6's language mode, without a warning" swift_in build $package \
  --build-tests -Xswiftc -warnings-as-errors

# The line that run_tests reads, from XCTest's last one.
swift_tests() {
  local output status=0
  output=$(mktemp)
  swift_in test $package --skip-build -Xswiftc -warnings-as-errors ${filter:+--filter "$filter"} 2>&1 |
    tee "$output" || status=$?
  awk '/Executed [0-9]+ tests?, with/ { all = $2; for (i = 3; i < NF; i++) {
      if ($(i + 1) ~ /^failures?/) bad = $i; if ($(i + 2) ~ /^skipped/) skipped = $i } }
    END { if (all != "") print "test cases: " all " | " all - bad - skipped " passed | " bad + 0 " failed" }' \
    "$output"
  rm -f "$output"
  return $status
}
run_tests "Swift package" swift_tests

# The first lines of the README, as they stand there.
readme() {
  local folder=$build/readme out
  rm -rf "$folder"
  mkdir -p "$folder/Sources/Readme"
  sed -n '/^<!-- test -->$/,/^```$/p' $package/README.md | sed -e '/^<!--/d' -e '/^```/d' \
    >"$folder/Sources/Readme/main.swift"
  [[ -s $folder/Sources/Readme/main.swift ]] || return 1
  cat >"$folder/Package.swift" <<'SWIFT'
// swift-tools-version: 6.0
import PackageDescription

let package = Package(
  name: "Readme",
  platforms: [.macOS(.v14)],
  dependencies: [.package(name: "Moka", path: "../../../platforms/apple")],
  targets: [.executableTarget(name: "Readme", dependencies: [.product(name: "Moka", package: "Moka")])],
  swiftLanguageModes: [.v6]
)
SWIFT
  swift_in build "$folder" || return 1
  out=$(inside "${configuration[@]}" sh -c "cd $tree && exec $scratch/${folder//\//-}/debug/Readme")
  printf '%s\n' "$out"
  [[ $out == "$(cat "$build/fixtures/warm.txt")"$'\n4' ]]
}
run_check "first lines of the README" readme
run_check "sample app, syntax of its screen" inside \
  sh -c "swiftc -parse -swift-version 6 $tree/$package/Example/StoryApp/*.swift"
print_totals
