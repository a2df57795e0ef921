#!/usr/bin/env bash
# Build Moka and run its tests, after installing what is missing.
#
#   ./test.sh [ARGUMENT...]     arguments go to the test program, as in
#   ./test.sh -tc='golden:*'    to run only some of the cases
# shellcheck source=cmake/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/cmake/setup.sh"

setup_build all
run_tests "tests" build/release/tests/moka_tests "$@"
print_totals
