#!/usr/bin/env bash
# Watch Moka write a story. The first run installs what is missing and builds,
# some minutes; later runs start at once.
#
#   ./demo.sh [PROMPT...]
# shellcheck source=cmake/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/cmake/setup.sh"

setup_build moka_cli
exec build/release/moka run models/stories.moka -p "${*:-Once upon a time}"
