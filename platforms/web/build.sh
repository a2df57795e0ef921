#!/usr/bin/env bash
# Build moka.wasm, moka-threads.wasm, the npm package and the page, and print the path of the package's
# archive.
#
#   platforms/web/build.sh [TARGET...]     more targets of the build for WebAssembly, as moka_tests
#
# build/web/package is the package, build/web/page the page, with the model of models/stories.moka.
# shellcheck source=cmake/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../cmake/setup.sh"

setup_packages node npm
# shellcheck disable=SC2016  # expanded by the inner shell
platforms/web/toolchain.sh bash -c '
  source cmake/setup.sh
  configure_and_build wasm --target moka_web "$@"
  configure_and_build wasm-threads --target moka_web "$@"
' build.sh "$@" >&2

web=build/web
rm -rf "$web/package" "$web/page"
mkdir -p "$web/package" "$web/page"
cp platforms/web/package/* platforms/web/README.md LICENSE NOTICE build/wasm/platforms/web/moka.wasm \
  build/wasm-threads/platforms/web/moka-threads.wasm "$web/package/"
version=$(sed -n 's/.*MOKA_VERSION_STRING "\(.*\)"/\1/p' runtime/include/moka/version.h)
sed "s/\"version\": \".*\"/\"version\": \"$version\"/" platforms/web/package/package.json \
  >"$web/package/package.json"
cp platforms/web/page/* "$web/page/"
cp -r "$web/package" "$web/page/moka"
ln -f models/stories.moka "$web/page/stories.moka" 2>/dev/null || cp models/stories.moka "$web/page/"
archive=$(cd "$web/package" && npm pack --silent --offline --pack-destination ..)
echo "$PWD/$web/$archive"
