#!/usr/bin/env bash
# Debian packages and the static command: platforms/linux/build.sh [amd64|arm64]
#
# Without an argument for this machine's architecture; for arm64 elsewhere it cross-compiles.
# The packages come to lie in build/packages-ARCH: moka, libmoka1 and libmoka-dev for ARCH,
# moka-models for all, and the file moka-static-VERSION-ARCH. Built on Debian 12 they install on
# Debian 12 and what is newer; built on something newer they need that.
# shellcheck source=cmake/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../cmake/setup.sh"

command -v dpkg >/dev/null || fail "Debian packages need dpkg, which is not here"
native=$(dpkg --print-architecture)
arch=${1:-$native}
case $arch in
  amd64) triplet=x86_64-linux-gnu ;;
  arm64) triplet=aarch64-linux-gnu ;;
  *) fail "'$arch' is no architecture that there are packages for; amd64 and arm64 are" ;;
esac
[[ $arch == "$native" || $arch == arm64 ]] || fail "$arch packages are built on $arch machines"

needs+='
dpkg-shlibdeps  dpkg-dev
file            file
gzip            gzip
'
# shellcheck disable=SC2086  # a list of words
setup_packages $build_needs dpkg-shlibdeps file gzip
preset=release
if [[ $arch != "$native" ]]; then
  setup_packages aarch64-linux-gnu-g++ qemu-aarch64
  preset=aarch64
fi

# Compiled as the preset says: what was tested and measured is what is in the packages.
build=build/packages-$arch
say "Configuring $build"
with_progress cmake --preset "$preset" -B "$build" \
  -DMOKA_PACKAGES=ON -DMOKA_BUILD_TESTS=OFF -DMOKA_BUILD_BENCHMARKS=OFF \
  -DMOKA_DEBIAN_ARCHITECTURE="$arch" \
  -DMOKA_MAINTAINER="$(sed -n 's/^ -- \(.*>\)  .*/\1/p' platforms/linux/debian/changelog | head -n 1)" \
  -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_LIBDIR="lib/$triplet" \
  -DCMAKE_EXE_LINKER_FLAGS=-Wl,-z,relro,-z,now -DCMAKE_SHARED_LINKER_FLAGS=-Wl,-z,relro,-z,now ||
  fail "configuring failed; the whole output is in $log"
with_progress cmake --build "$build" --parallel "$cores" ||
  fail "the build failed; the whole output is in $log"

# dpkg-shlibdeps asks for the architecture that the packages are for.
umask 022
rm -rf "$build/packages" "$build/_CPack_Packages"
export DEB_HOST_ARCH=$arch
# Of a cross-compiler's libraries it must be told.
libraries=()
[[ $arch == "$native" ]] ||
  libraries=(-D CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS="/usr/$triplet/lib")
(cd "$build" && with_progress cpack ${libraries[@]+"${libraries[@]}"}) || fail "cpack failed"

# What cpack of CMake 3.25 has no setting for: Multi-Arch, and a library without scripts that call
# ldconfig, for which there is a trigger. And a cross-compiler's libraries are in packages of its
# own, named like libc6-arm64-cross, which no target has.
declare -A multi=([moka]=foreign [libmoka1]=same [libmoka-dev]=same [moka-models]=foreign)
for deb in "$build"/packages/*.deb; do
  name=$(dpkg-deb -f "$deb" Package)
  tree=$build/repack/$name
  rm -rf "$tree"
  mkdir -p "$build/repack"
  dpkg-deb -R "$deb" "$tree"
  rm -f "$tree/DEBIAN/postinst" "$tree/DEBIAN/postrm"
  sed -i -E -e "s/^(Architecture: .*)/\1\nMulti-Arch: ${multi[$name]}/" \
    -e '/^Depends:/s/(-arm64-cross|:arm64)//g' "$tree/DEBIAN/control"
  dpkg-deb --root-owner-group -Zxz --build "$tree" "$deb" >/dev/null
done
rm -rf "$build/repack"

version=$(sed -n 's/.*MOKA_VERSION_STRING "\(.*\)"/\1/p' runtime/include/moka/version.h)
static=$build/packages/moka-static-$version-$arch
cp "$build/moka-static" "$static"
"$([[ $arch == "$native" ]] && echo strip || echo aarch64-linux-gnu-strip)" "$static"
say "built:"
ls -1 "$build/packages"/*
