#!/usr/bin/env bash
# Make CMoka.xcframework: the C library for iPhone and iPad, their simulator and the Mac, as the module
# that Package.swift uses there. On a Mac alone, with Xcode, CMake 3.25, Ninja, Python 3 and xxHash.
#
#   platforms/apple/xcframework.sh [--dry-run] [FOLDER]
#
# FOLDER, platforms/apple when it is left out, gets CMoka.xcframework and CMoka.xcframework.zip; the last
# line is the binaryTarget of a package that loads the latter, with its checksum. --dry-run prints the
# commands and does nothing, on any system. MOKA_SIGN=NAME signs with that identity, else it is signed
# for this Mac alone, as apps sign what they embed themselves.
set -euo pipefail
unset CDPATH

ios=17.0 macos=14.0 # as in Package.swift

fail() {
  echo "xcframework.sh: $*" >&2
  exit 1
}

dry='' out=''
for argument; do
  case $argument in
    --dry-run) dry=1 ;;
    -*) fail "$argument is no option; usage: xcframework.sh [--dry-run] [FOLDER]" ;;
    *)
      [[ -z $out ]] || fail "two folders, $out and $argument"
      out=$argument
      ;;
  esac
done

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tree=$(cd "$here/../.." && pwd)
out=${out:-$here}
[[ -n $dry ]] || mkdir -p "$out"
[[ ! -d $out ]] || out=$(cd "$out" && pwd)
work=$tree/build/apple
version=$(sed -n 's/.*define MOKA_VERSION_STRING "\([0-9.]*\)".*/\1/p' \
  "$tree/runtime/include/moka/version.h")
[[ -n $version ]] || fail "runtime/include/moka/version.h names no version"

run() {
  if [[ -n $dry ]]; then
    printf '%q ' "$@" | sed 's/ $//'
    echo
  else
    "$@"
  fi
}

write() { # FILE, with what stdin has
  if [[ -n $dry ]]; then
    cat >/dev/null
    echo "write $1"
  else
    cat >"$1"
  fi
}

if [[ -z $dry ]]; then
  for tool in xcodebuild lipo install_name_tool strip codesign ditto shasum cmake ninja python3; do
    command -v "$tool" >/dev/null ||
      fail "$tool is missing: this needs a Mac with Xcode, and cmake and ninja; --dry-run needs nothing"
  done
fi

# ---- one library per system and processor ----------------------------------------

# Where Homebrew and MacPorts have it: cross-builds do not look there.
headers=()
for folder in /opt/homebrew/include /usr/local/include /opt/local/include; do
  [[ ! -f $folder/xxhash.h ]] || headers=("-DMOKA_xxhash_INCLUDE_DIR=$folder")
done

build() { # NAME SYSTEM SDK PROCESSOR OLDEST-SYSTEM
  run cmake -S "$tree" -B "$work/$1" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_SYSTEM_NAME="$2" -DCMAKE_SYSTEM_PROCESSOR="$4" -DCMAKE_OSX_SYSROOT="$3" \
    -DCMAKE_OSX_ARCHITECTURES="$4" -DCMAKE_OSX_DEPLOYMENT_TARGET="$5" \
    -DMOKA_BUILD_TOOLS=OFF -DMOKA_BUILD_TESTS=OFF -DMOKA_BUILD_BENCHMARKS=OFF -DMOKA_INSTALL=OFF \
    ${headers[@]+"${headers[@]}"}
  run cmake --build "$work/$1" --target moka_c
}

build ios-arm64 iOS iphoneos arm64 "$ios"
build simulator-arm64 iOS iphonesimulator arm64 "$ios"
build simulator-x86_64 iOS iphonesimulator x86_64 "$ios"
build macos-arm64 Darwin macosx arm64 "$macos"
build macos-x86_64 Darwin macosx x86_64 "$macos"

# ---- a framework per system ------------------------------------------------------

info_plist() { # PLATFORM KEY-OF-THE-OLDEST-SYSTEM OLDEST-SYSTEM
  cat <<PLIST
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>CFBundleDevelopmentRegion</key><string>en</string>
  <key>CFBundleExecutable</key><string>CMoka</string>
  <key>CFBundleIdentifier</key><string>moka.CMoka</string>
  <key>CFBundleInfoDictionaryVersion</key><string>6.0</string>
  <key>CFBundleName</key><string>CMoka</string>
  <key>CFBundlePackageType</key><string>FMWK</string>
  <key>CFBundleShortVersionString</key><string>$version</string>
  <key>CFBundleVersion</key><string>$version</string>
  <key>CFBundleSupportedPlatforms</key><array><string>$1</string></array>
  <key>$2</key><string>$3</string>
</dict>
</plist>
PLIST
}

framework() { # NAME PLATFORM KEY-OF-THE-OLDEST-SYSTEM OLDEST-SYSTEM BUILD...
  local framework=$work/$1/CMoka.framework platform=$2 key=$3 oldest=$4 name
  local libraries=() inside=$framework resources=$framework install=@rpath/CMoka.framework/CMoka
  for name in "${@:5}"; do libraries+=("$work/$name/libmoka.dylib"); done
  if [[ $platform == MacOSX ]]; then # frameworks of the Mac have versions
    inside=$framework/Versions/A
    resources=$inside/Resources
    install=@rpath/CMoka.framework/Versions/A/CMoka
  fi

  run rm -rf "$framework"
  run mkdir -p "$inside/Headers" "$inside/Modules" "$resources"
  run lipo -create "${libraries[@]}" -output "$inside/CMoka"
  run install_name_tool -id "$install" "$inside/CMoka"
  run strip -x "$inside/CMoka"
  run cp "$tree"/platforms/capi/include/*.h "$inside/Headers/"
  run cp "$here/framework/module.modulemap" "$inside/Modules/"
  run cp "$here/framework/PrivacyInfo.xcprivacy" "$resources/"
  info_plist "$platform" "$key" "$oldest" | write "$resources/Info.plist"
  if [[ $platform == MacOSX ]]; then
    run ln -s A "$framework/Versions/Current"
    for name in CMoka Headers Modules Resources; do
      run ln -s "Versions/Current/$name" "$framework/$name"
    done
  fi
  run codesign --force --sign "${MOKA_SIGN:--}" "$framework"
}

framework ios iPhoneOS MinimumOSVersion "$ios" ios-arm64
framework simulator iPhoneSimulator MinimumOSVersion "$ios" simulator-arm64 simulator-x86_64
framework macos MacOSX LSMinimumSystemVersion "$macos" macos-arm64 macos-x86_64

# ---- all of them -----------------------------------------------------------------

run rm -rf "$work/CMoka.xcframework" "$work/CMoka.xcframework.zip"
run xcodebuild -create-xcframework -framework "$work/ios/CMoka.framework" \
  -framework "$work/simulator/CMoka.framework" -framework "$work/macos/CMoka.framework" \
  -output "$work/CMoka.xcframework"
[[ -z ${MOKA_SIGN:-} ]] || run codesign --timestamp --sign "$MOKA_SIGN" "$work/CMoka.xcframework"
run ditto -c -k --sequesterRsrc --keepParent "$work/CMoka.xcframework" "$work/CMoka.xcframework.zip"
run rm -rf "$out/CMoka.xcframework"
run mv "$work/CMoka.xcframework" "$work/CMoka.xcframework.zip" "$out/"
if [[ -n $dry ]]; then
  run shasum -a 256 "$out/CMoka.xcframework.zip"
else
  sum=$(shasum -a 256 "$out/CMoka.xcframework.zip")
  echo ".binaryTarget(name: \"CMoka\", url: \"URL/CMoka.xcframework.zip\", checksum: \"${sum%% *}\")"
fi
