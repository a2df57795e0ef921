#!/usr/bin/env bash
# Build the wheel of the Python package and test what it installs.
#
#   platforms/python/test.sh [TEST...]     as in platforms/python/test.sh tests.test_reply
# shellcheck source=cmake/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../cmake/setup.sh"

setup_packages pydoc3
setup_build moka_c moka_cli
build=$PWD/build/python
rm -rf "$build"
run_check "wheel" python3 platforms/python/backend/moka_build.py "$build"
run_check "what is in it" python3 -m zipfile -e "$build"/moka-*.whl "$build/site"

cd platforms/python
run_tests "Python package" env -u MOKA_LIBRARY PYTHONPATH="$build/site" \
  MOKA_COMMAND="$OLDPWD/build/release/moka" python3 tests/run.py "$@"
print_totals
