#!/bin/sh
# Programs outside of Moka's tree use it in every way there is, and all of them say
# the same: tests/consumer/run.sh BUILD [inside]. Works in BUILD/consumers.
#
#   installed   find_package, and pkg-config: C++, C with the shared library, C with archives
#   inside      also add_subdirectory and FetchContent, which build Moka again
set -eu
build=$(cd "$1" && pwd)
tree=$(cd "$(dirname "$0")/../.." && pwd)
work=$build/consumers
model=$tree/models/stories.moka
rm -rf "$work"
mkdir -p "$work"

fail() {
  echo "error: $*" >&2
  exit 1
}
quietly() { # COMMAND...: its words only when it fails
  "$@" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    fail "$* failed"
  }
}
expected=
says() { # PROGRAM: the text, equal for all
  text=$("$1" "$model" "Once upon a time") || fail "$1 failed"
  [ -n "$text" ] || fail "$1 wrote nothing"
  expected=${expected:-$text}
  [ "$text" = "$expected" ] || fail "$1 wrote '$text', others '$expected'"
  echo "ok: ${1#"$work"/}"
}

quietly cmake --install "$build" --prefix "$work/installed"
for consumer in consumer consumer_c; do
  quietly cmake -G Ninja -S "$tree/tests/$consumer" -B "$work/$consumer" \
    -DCMAKE_PREFIX_PATH="$work/installed" -DWITH_ARCHIVE=ON --no-warn-unused-cli
  quietly cmake --build "$work/$consumer"
done
says "$work/consumer/consumer"
says "$work/consumer_c/consumer_c"
says "$work/consumer_c/consumer_c_static"

# A project of C alone has the shared library, too.
quietly cmake -G Ninja -S "$tree/tests/consumer_c" -B "$work/only_c" \
  -DCMAKE_PREFIX_PATH="$work/installed"
quietly cmake --build "$work/only_c"
says "$work/only_c/consumer_c"

if command -v pkg-config >/dev/null; then
  PKG_CONFIG_PATH=$(dirname "$(find "$work/installed" -name moka.pc)")
  export PKG_CONFIG_PATH
  mkdir "$work/pkg"
  # Words of their own, on purpose.
  # shellcheck disable=SC2046
  {
    quietly "${CXX:-c++}" -std=c++17 "$tree/tests/consumer/main.cc" -o "$work/pkg/cpp" \
      $(pkg-config --cflags --libs moka)
    quietly "${CC:-cc}" -std=c11 -Wall -Wextra -Wpedantic -Werror "$tree/tests/consumer_c/main.c" \
      -o "$work/pkg/c_static" $(pkg-config --cflags --libs moka)
    quietly "${CC:-cc}" -std=c11 -Wall -Wextra -Wpedantic -Werror "$tree/tests/consumer_c/main.c" \
      -o "$work/pkg/c" $(pkg-config --cflags --libs moka-c) \
      "-Wl,-rpath,$(pkg-config --variable=libdir moka-c)"
  }
  says "$work/pkg/cpp"
  says "$work/pkg/c"
  says "$work/pkg/c_static"
else
  echo "skipped: pkg-config is not here"
fi

[ "${2:-}" = inside ] || exit 0
for fetch in OFF ON; do
  # Without optimisation, and with the plain kernels: what is tested is the build.
  quietly cmake -G Ninja -S "$tree/tests/consumer_inside" -B "$work/inside_$fetch" \
    -DMOKA_TREE="$tree" -DFETCH=$fetch -DCMAKE_BUILD_TYPE=Debug -DMOKA_KERNELS=
  # One after the other would compile everything twice: the second only configures.
  [ $fetch = OFF ] || continue
  quietly cmake --build "$work/inside_$fetch"
  for program in in_cpp in_c_static; do
    [ -x "$work/inside_$fetch/$program" ] || fail "$program was not built"
  done
  # Kernels round differently: no text is expected here, but some.
  [ -n "$("$work/inside_$fetch/in_c" "$model" "Once upon a time" 2)" ] || fail "in_c wrote nothing"
done
echo "ok: add_subdirectory, FetchContent"
