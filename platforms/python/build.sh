#!/usr/bin/env bash
# Build the wheel of the Python package, with libmoka.so in it, and print its path.
#
#   platforms/python/build.sh [FOLDER]     build/python when it is left out
# shellcheck source=cmake/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../cmake/setup.sh"

setup_build moka_c
exec python3 platforms/python/backend/moka_build.py "${1:-build/python}"
