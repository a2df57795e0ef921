#!/usr/bin/env bash
# Build the Android library for this machine and test it with Java, and compile what can be compiled for
# Android without its NDK.
#
#   platforms/android/test.sh [CLASS...]     as in platforms/android/test.sh LifeTest
# shellcheck source=cmake/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../cmake/setup.sh"

setup_packages javac /usr/share/java/junit4.jar kotlinc \
  /usr/share/java/kotlinx-coroutines-core.jar /usr/share/java/atomicfu.jar clang++ aarch64-linux-gnu-g++ \
  /usr/include/android/android/log.h android/nativehelper/jni.h
setup_build moka_cli
android=$PWD/platforms/android
build=$PWD/build/android
out=$build/classes
jars=/usr/share/java
kotlin=$jars/kotlinx-coroutines-core.jar:$jars/kotlin-stdlib-jdk7.jar
java_home=$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")

# The same CMake file as in the Android build.
build_library() {
  [[ -f $build/build.ninja ]] ||
    with_progress cmake -S "$android/jni" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
      -DMOKA_JNI_WERROR=ON "-DMOKA_JNI_INCLUDE_DIR=$java_home/include" || return 1
  with_progress cmake --build "$build" --parallel "$cores" --target moka_jni moka_c
}

sources() { find "$@" -name '*.java' | sort; }

# Java 8 for what apps get: its language, and no class of the platform that is newer.
compile_java() {
  rm -rf "$out"
  mkdir -p "$out"/{android,moka,sample,tests}
  # shellcheck disable=SC2046  # lists of files without spaces
  {
    local strict=(--release 8 -Xlint:all,-options -Werror)
    javac --release 8 -Xlint:-options -d "$out/android" \
      $(sources "$android/tests/stand-ins/android") &&
      javac "${strict[@]}" -cp "$out/android" -d "$out/moka" $(sources "$android/moka") &&
      javac "${strict[@]}" -cp "$out/android:$out/moka" -d "$out/sample" \
        $(sources "$android/sample" "$android/tests/stand-ins/dev") &&
      javac -cp "$out/android:$out/moka:$out/sample:$jars/junit4.jar" -d "$out/tests" \
        $(sources "$android/tests/java")
  }
}

# With the stand-ins for what coroutines 1.0 have not, and the example of README.md that is marked so.
compile_kotlin() {
  mkdir -p "$out/readme" "$out/kotlin"
  {
    echo 'package dev.moka'
    sed -n '/^<!-- test: kotlin -->$/,/^```$/p' "$android/README.md" | sed '1,2d;$d'
  } >"$out/readme/Readme.kt"
  grep -q '^suspend fun tell(' "$out/readme/Readme.kt" || return 1
  # Debian's coroutines are old enough to call some of this experimental.
  local old=() name
  for name in kotlin.Experimental kotlinx.coroutines.{Experimental,Obsolete}CoroutinesApi; do
    old+=("-Xuse-experimental=$name")
  done
  kotlinc "${old[@]}" -jvm-target 1.8 -d "$out/kotlin" -cp "$kotlin:$out/moka:$out/tests:$jars/junit4.jar" \
    "$android"/tests/stand-ins/*.kt "$android"/moka/src/main/kotlin/dev/moka/*.kt \
    "$out/readme/Readme.kt" "$android"/tests/kotlin/*.kt
}

run_check "native library" build_library
run_check "Java, for Java 8" compile_java
run_check "Kotlin" compile_kotlin

paths=$out/tests:$out/sample:$out/moka:$out/android
paths+=:$out/kotlin:$kotlin:$jars/kotlin-stdlib.jar:$jars/atomicfu.jar
paths+=:$jars/junit4.jar:$jars/hamcrest.jar
tests=("$@")
[[ $# -gt 0 ]] || tests=(ModelTest SessionTest ChatTest TaskTest LifeTest LibraryTest ReadmeTest
  sample.StoryTest FlowTest)
run_tests "Java and Kotlin" java -Xmx512m -cp "$paths" "-Djava.library.path=$build" \
  --add-opens java.base/java.io=ALL-UNNAMED \
  "-Dmoka.tree=$PWD" "-Dmoka.command=$PWD/build/release/moka" dev.moka.Run "${tests[@]}"
[[ $# -gt 0 ]] ||
  run_check "native sources for Android" python3 "$android/tests/compile_for_android.py" \
    "$build/compile_commands.json"
print_totals
