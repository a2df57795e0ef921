# Sourced by demo.sh, test.sh, .ci/run and the scripts in platforms: brings a machine to
# where Moka builds, builds it, runs test programs. Needs bash; everything said goes to stderr.
#
#   setup_build TARGET...   packages, sources, configuration and build, each only
#                           where something is missing; gives build/release
#   setup_packages WHAT...  install what is missing of the named rows of `needs`
#   run_tests WHAT CMD...   run a doctest program, add its cases to the counts
#   run_check WHAT CMD...   run a command that succeeds or fails, as one test
#   print_totals            the closing line; fails when a test did
# shellcheck shell=bash
set -euo pipefail
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }
fail() {
  say "error: $*"
  exit 1
}

# ---- packages ----------------------------------------------------------------

# What a build needs: a command, a header when it ends in .h or .hpp, or a file
# when it begins with /, and Debian's packages of it. XNNPACK's build lists its kernels with Python.
needs='
cmake          cmake
ninja          ninja-build
c++            g++
python3        python3-minimal
tar            tar
xz             xz-utils
CLI/CLI.hpp    libcli11-dev
nlohmann/json.hpp  nlohmann-json3-dev
xxhash.h       libxxhash-dev
'
build_needs='cmake ninja c++ python3 tar xz CLI/CLI.hpp nlohmann/json.hpp xxhash.h'
# For the Python package: all of the standard library, of which the build needs less.
needs+='
pydoc3         python3
'
# For the fuzz targets: clang, which brings libFuzzer.
needs+='
clang++        clang libclang-rt-dev
'
# For the Android library: Java with JUnit, Kotlin with the coroutines that Debian has, and the headers
# of Android that it has.
needs+='
javac          default-jdk-headless
/usr/share/java/junit4.jar  junit4
kotlinc        kotlin
/usr/share/java/kotlinx-coroutines-core.jar  libkotlinx-coroutines-java
/usr/share/java/atomicfu.jar  libkotlinx-atomicfu-java
/usr/include/android/android/log.h  android-liblog-dev
android/nativehelper/jni.h  android-libnativehelper-dev
'
# For WebAssembly: Node and a browser; platforms/web/toolchain.sh brings Emscripten.
needs+='
node           nodejs
npm            npm
chromium       chromium
'
# For the cross-build and the tests under emulation.
needs+='
aarch64-linux-gnu-g++  g++-aarch64-linux-gnu
qemu-aarch64   qemu-user
'

is_there() { # COMMAND-OR-HEADER
  case $1 in
    *.h | *.hpp)
      local folder
      for folder in /usr/include /usr/local/include /opt/homebrew/include /opt/local/include; do
        [[ ! -e $folder/$1 ]] || return 0
      done
      return 1
      ;;
    /*) [[ -e $1 ]] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

setup_packages() {
  local item names missing=() packages=()
  for item in "$@"; do
    is_there "$item" || missing+=("$item")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0

  if ! command -v apt-get >/dev/null; then
    say "Moka needs CMake 3.25, Ninja, a C++17 compiler, Python 3, xz, CLI11, nlohmann/json and xxHash; not found here: ${missing[*]}. $(package_hint)"
    return 0 # they may be in places unknown to us; the build will tell
  fi
  for item in "${missing[@]}"; do
    read -ra names < <(awk -v item="$item" '$1 == item { $1 = ""; print }' <<<"$needs")
    packages+=("${names[@]}")
  done

  local as_root=()
  if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null ||
      fail "packages are missing, and there is neither root nor sudo here to install them; as root: apt-get install ${packages[*]}"
    as_root=(sudo)
    sudo -v || fail "sudo refused; have these packages installed: ${packages[*]}"
  fi
  say "Installing packages: ${packages[*]}"
  local apt=(${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive
    apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0)
  with_progress "${apt[@]}" update ||
    say "warning: apt could not refresh its lists; trying with those it has"
  with_progress "${apt[@]}" install --no-install-recommends "${packages[@]}" ||
    fail "apt could not install ${packages[*]}; is there a network?"
}

package_hint() {
  local all='cli11 nlohmann-json xxhash'
  if command -v brew >/dev/null; then
    echo "Install: brew install cmake ninja xz $all"
  elif command -v dnf >/dev/null; then
    echo "Install: dnf install cmake ninja-build gcc-c++ python3 xz cli11-devel json-devel xxhash-devel"
  elif command -v pacman >/dev/null; then
    echo "Install: pacman -S cmake ninja gcc python xz $all"
  elif command -v zypper >/dev/null; then
    echo "Install: zypper install cmake ninja gcc-c++ python3 xz cli11-devel nlohmann_json-devel xxhash-devel"
  fi
}

# ---- progress ----------------------------------------------------------------

log=build/setup.log

# Runs a command that says what it does line by line, and shows its last line
# and the time since the script began: on a terminal in place, elsewhere now and
# then. The whole output is in the log; of a failure, its end is shown.
with_progress() {
  mkdir -p build
  if "$@" </dev/null 2>&1 | tee "$log" | show_progress; then return 0; fi
  # A compiler's message stands after the line that says which step failed.
  if grep -q '^FAILED:' "$log"; then
    sed -n '/^FAILED:/,$p' "$log" | head -n 60 >&2
  else
    tail -n 25 "$log" >&2
  fi
  return 1
}

show_progress() {
  local line='' partial='' shown='' status last=$SECONDS columns=80 patience=(-t 1)
  ((BASH_VERSINFO[0] >= 4)) || patience=() # macOS' bash 3 cannot tell a time-out from the end
  [[ ! -t 2 ]] || columns=$(stty size 2>/dev/null </dev/tty | cut -d' ' -f2) || true
  ((${columns:-0} >= 20)) || columns=80 # some terminals say 0
  while true; do
    status=0
    IFS= read -r ${patience[@]+"${patience[@]}"} line || status=$?
    [[ $status -ne 1 ]] || break # the end; above 128: no whole line within a second
    partial+=$line
    [[ $status -ne 0 ]] || { shown=$partial partial=''; }
    if [[ -t 2 ]]; then
      printf '\r\033[K%4d s  %s' "$SECONDS" "${shown:0:columns-9}" >&2
    elif ((SECONDS - last >= 20)); then
      printf '%4d s  %s\n' "$SECONDS" "${shown:0:100}" >&2
      last=$SECONDS
    fi
  done
  [[ ! -t 2 ]] || printf '\r\033[K' >&2
}

# ---- build -------------------------------------------------------------------

# configure_and_build PRESET [BUILD-ARGUMENT...]
configure_and_build() {
  local preset=$1
  shift
  # A build folder that was moved along with the project is of no use to CMake.
  if ! grep -qsxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "build/$preset/CMakeCache.txt"; then
    rm -rf "build/$preset"
  fi
  if [[ ! -f build/$preset/build.ninja ]]; then
    say "Configuring (preset $preset); the first time this builds XNNPACK, a few minutes"
    with_progress cmake --preset "$preset" || fail "configuring failed; the whole output is in $log"
  fi
  with_progress cmake --build "build/$preset" --parallel "$cores" "$@" ||
    fail "the build failed; the whole output is in $log"
}

setup_build() {
  # shellcheck disable=SC2086  # a list of words
  setup_packages $build_needs
  local version
  version=$(cmake --version 2>/dev/null | sed -n '1s/.* //p')
  [[ -n $version ]] || fail "cmake is missing"
  [[ $(printf '%s\n' 3.25 "$version" | sort -V | head -n 1) == 3.25 ]] ||
    fail "CMake 3.25 or newer is needed, this is $version"
  configure_and_build release --target "$@"
}

cores=$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)

# ---- tests -------------------------------------------------------------------

passed=0
failed=0

# Runs a command that ends in doctest's summary. One that dies without a summary
# counts as one failed test.
run_tests() { # WHAT COMMAND...
  local what=$1 output status=0 summary
  shift
  say "== $what"
  output=$(mktemp)
  "$@" 2>&1 </dev/null | tee "$output" || status=$?
  summary=$(sed 's/\x1b\[[0-9;]*m//g' "$output" |
    sed -nE 's/.*test cases: *[0-9]+ *\| *([0-9]+) passed *\| *([0-9]+) failed.*/\1 \2/p' | tail -n 1)
  rm -f "$output"
  if [[ -z $summary ]]; then
    say "error: $what ended without a summary, exit status $status"
    failed=$((failed + 1))
    return 0
  fi
  passed=$((passed + ${summary% *}))
  failed=$((failed + ${summary#* }))
  if [[ $status -ne 0 && ${summary#* } -eq 0 ]]; then
    say "error: $what: all tests passed, but the exit status is $status"
    failed=$((failed + 1))
  fi
}

run_check() { # WHAT COMMAND...
  say "== $1"
  if "${@:2}" </dev/null; then
    passed=$((passed + 1))
  else
    say "error: $1: failed"
    failed=$((failed + 1))
  fi
}

print_totals() {
  say "done after $SECONDS s"
  echo "$passed passed, $failed failed"
  [[ $failed -eq 0 && $passed -gt 0 ]]
}
