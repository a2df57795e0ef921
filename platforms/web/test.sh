#!/usr/bin/env bash
# Build the web package and test it: kernels and models as WebAssembly, the package in Node as npm
# installs it, package and page in Chromium.
#
#   platforms/web/test.sh [FILE...]     some of platforms/web/tests, as in platforms/web/test.sh chat
# shellcheck source=cmake/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../cmake/setup.sh"

setup_packages node npm chromium
setup_build moka_cli # sessions and chats of the command are read by the package, too
archive=$(platforms/web/build.sh moka_tests) || fail "the web package cannot be built"

if [[ $# -eq 0 ]]; then
  for flavour in wasm wasm-threads; do
    run_tests "kernels and golden models, $flavour" \
      node "build/$flavour/tests/moka_tests.js" -tc='kernel*,golden:*,half*,latents*'
  done
fi

# What npm installs into an empty project.
project=$PWD/build/web/project
rm -rf "$project"
mkdir -p "$project"
(cd "$project" && npm init --yes --silent >/dev/null &&
  npm install --silent --offline --no-audit --no-fund "$archive" >/dev/null) || fail "npm cannot install $archive"
run_tests "web package" env MOKA_ROOT="$PWD" MOKA_PROJECT="$project" \
  MOKA_COMMAND="$PWD/build/release/moka" node platforms/web/tests/run.mjs "$@"
print_totals
