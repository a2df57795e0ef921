# Where Moka's dependencies come from.
#
# Compiled libraries (XNNPACK, pthreadpool, cpuinfo, utf8proc) are built from
# pinned sources by the separate project in cmake/third_party, once per compiler
# and target, and imported from there. A project of its own, because
#   - they need two minutes on two cores: every preset, and every build after
#     `rm -rf build`, shares the one result;
#   - their build files set language standards, options and install rules for
#     everything around them, and ours would do the same to theirs;
#   - sanitizers and warnings are for our code: theirs is always the release form.
# The system's are not used. Debian 12 has an XNNPACK too old, Debian 13 the right
# one but only shared; and results are promised to be the same from machine to
# machine, which needs one version of the kernels and of the Unicode tables.
#
# Zstandard's decoder, which only the converter needs, is built from its pinned
# source within Moka's own build.
#
# Headers: FlatBuffers and doctest are the system's if that has the right version,
# otherwise pinned; CLI11, nlohmann/json and xxHash are in every distribution, and
# any recent version will do.
#
# Pinned sources are fetched by cmake/fetch-sources.sh, or taken from a folder of
# unpacked trees, MOKA_DEPS_SOURCE_DIR (variable or environment). What is fetched,
# and the libraries built, live in MOKA_DEPS_DIR (variable or environment, default
# .deps in the project), outside of any build folder.

option(MOKA_FETCH "Download missing dependency sources while configuring" ON)

foreach(name IN ITEMS MOKA_DEPS_DIR MOKA_DEPS_SOURCE_DIR)
  set(${name} "$ENV{${name}}" CACHE PATH "see cmake/Dependencies.cmake")
endforeach()
set(moka_deps_dir "${MOKA_DEPS_DIR}")
if(NOT moka_deps_dir)
  set(moka_deps_dir .deps)
endif()
cmake_path(ABSOLUTE_PATH moka_deps_dir BASE_DIRECTORY "${PROJECT_SOURCE_DIR}")
set(moka_sources_dir "${MOKA_DEPS_SOURCE_DIR}")
if(NOT moka_sources_dir)
  set(moka_sources_dir "${moka_deps_dir}/src")
endif()

# Sees to it that moka_sources_dir holds a tree of each given name.
function(moka_need_sources)
  if(MOKA_FETCH AND NOT MOKA_DEPS_SOURCE_DIR)
    execute_process(RESULT_VARIABLE status
      COMMAND sh "${PROJECT_SOURCE_DIR}/cmake/fetch-sources.sh" "${moka_sources_dir}" ${ARGN})
    if(status)
      message(FATAL_ERROR "Sources are missing and could not be fetched; the reason is above. "
        "MOKA_DEPS_SOURCE_DIR can name a folder of unpacked trees instead: ${ARGN}")
    endif()
  endif()
  foreach(name IN LISTS ARGN)
    if(NOT IS_DIRECTORY "${moka_sources_dir}/${name}")
      message(FATAL_ERROR "The source of ${name} is not in ${moka_sources_dir}; "
        "cmake/fetch-sources.sh can put it there.")
    endif()
  endforeach()
endfunction()

# ---- compiled libraries -----------------------------------------------------

set(moka_third_party_recipe "${PROJECT_SOURCE_DIR}/cmake/third_party")
if(EMSCRIPTEN)
  string(APPEND moka_third_party_recipe "/wasm")
endif()

# Sets <var> to a name made from everything that decides what the build gives.
function(moka_third_party_key var flags)
  file(SHA256 "${moka_third_party_recipe}/CMakeLists.txt" recipe)
  execute_process(COMMAND "${CMAKE_C_COMPILER}" -dumpmachine
    OUTPUT_VARIABLE machine OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  set(identity "${recipe}" "${machine}" "${flags}"
    "${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION} ${CMAKE_C_COMPILER_TARGET} ${CMAKE_C_FLAGS}"
    "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} ${CMAKE_CXX_COMPILER_TARGET} ${CMAKE_CXX_FLAGS}"
    "${CMAKE_SYSTEM_NAME} ${CMAKE_SYSROOT} ${CMAKE_OSX_ARCHITECTURES} ${CMAKE_OSX_DEPLOYMENT_TARGET}")
  if(CMAKE_OSX_SYSROOT)  # a phone and its simulator differ in nothing else
    list(APPEND identity "${CMAKE_OSX_SYSROOT}")
  endif()
  foreach(name IN LISTS ARGN)
    set(hash "${moka_sources_dir}/${name}")  # a tree of the user's: known by its place
    if(EXISTS "${hash}/.source-sha256")
      file(READ "${hash}/.source-sha256" hash)
    endif()
    list(APPEND identity "${hash}")
  endforeach()
  string(SHA256 key "${identity}")
  string(SUBSTRING "${key}" 0 12 key)
  string(TOLOWER
    "${CMAKE_SYSTEM_PROCESSOR}-${CMAKE_CXX_COMPILER_ID}${CMAKE_CXX_COMPILER_VERSION}-${key}" key)
  set(${var} "${key}" PARENT_SCOPE)
endfunction()

# Builds that project with <flags> and installs it to <prefix>.
function(moka_build_third_party prefix flags)
  # Configurations may run side by side: one builds, the others wait for it.
  file(LOCK "${prefix}.lock" GUARD FUNCTION TIMEOUT 3600 RESULT_VARIABLE locked)
  if(NOT locked EQUAL 0)
    message(FATAL_ERROR "Cannot lock ${prefix}.lock: ${locked}")
  endif()
  if(EXISTS "${prefix}/complete")
    return()
  endif()

  message(STATUS "Building XNNPACK and its libraries, once for this compiler: ${prefix}")
  find_program(MOKA_PYTHON3 python3)  # XNNPACK lists its kernels with a script
  if(NOT MOKA_PYTHON3)
    message(FATAL_ERROR "python3 is missing; XNNPACK's build needs it.")
  endif()
  set(settings "")
  set(target "")
  if(CMAKE_CROSSCOMPILING AND NOT CMAKE_TOOLCHAIN_FILE)  # as for iOS; else that file says it
    set(target CMAKE_SYSTEM_NAME CMAKE_SYSTEM_PROCESSOR)
  endif()
  foreach(setting IN ITEMS ${target}
      CMAKE_C_COMPILER CMAKE_CXX_COMPILER CMAKE_C_COMPILER_LAUNCHER CMAKE_CXX_COMPILER_LAUNCHER
      CMAKE_MAKE_PROGRAM CMAKE_TOOLCHAIN_FILE CMAKE_SYSROOT
      CMAKE_OSX_SYSROOT CMAKE_OSX_ARCHITECTURES CMAKE_OSX_DEPLOYMENT_TARGET)
    if(${setting})
      list(APPEND settings "-D${setting}=${${setting}}")
    endif()
  endforeach()
  if(ANDROID)  # what the toolchain file of the NDK asks for; by itself it builds for 32-bit Arm
    foreach(setting IN ITEMS ANDROID_ABI ANDROID_PLATFORM ANDROID_STL)
      list(APPEND settings "-D${setting}=${${setting}}")
    endforeach()
  endif()

  set(build "${prefix}.build")
  set(log "${prefix}.log")
  set(quietly OUTPUT_FILE "${log}" ERROR_FILE "${log}" RESULT_VARIABLE status)
  execute_process(${quietly} COMMAND "${CMAKE_COMMAND}"
    -S "${moka_third_party_recipe}" -B "${build}" -G "${CMAKE_GENERATOR}"
    ${settings} --no-warn-unused-cli -DCMAKE_BUILD_TYPE=Release
    "-DCMAKE_C_FLAGS=${CMAKE_C_FLAGS} ${flags}" "-DCMAKE_CXX_FLAGS=${CMAKE_CXX_FLAGS} ${flags}"
    "-DMOKA_SOURCES=${moka_sources_dir}" "-DPython_EXECUTABLE=${MOKA_PYTHON3}"
    "-DCMAKE_INSTALL_PREFIX=${prefix}")
  if(NOT status)  # its progress goes to the terminal: this is what takes the time
    cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
    execute_process(RESULT_VARIABLE status
      COMMAND "${CMAKE_COMMAND}" --build "${build}" --config Release --parallel ${cores})
  endif()
  if(NOT status)
    execute_process(${quietly} COMMAND "${CMAKE_COMMAND}" --install "${build}" --config Release)
  endif()
  if(status)
    message(FATAL_ERROR "XNNPACK and its libraries could not be built; see above, or ${log}")
  endif()
  file(TOUCH "${prefix}/complete")
  file(REMOVE_RECURSE "${build}" "${log}")
endfunction()

# Sets moka_third_party to where the libraries are, and declares them.
set(trees xnnpack pthreadpool cpuinfo fxdiv utf8proc)
moka_need_sources(${trees})
set(flags "")
if(MOKA_SANITIZE MATCHES "thread")
  # The thread sanitizer must see the synchronisation inside pthreadpool, or it
  # reports what is ordered by it. The other sanitizers need no such help.
  set(flags "-fsanitize=thread -g1")
endif()
moka_third_party_key(key "${flags}" ${trees})
set(moka_third_party "${moka_deps_dir}/built/${key}")
if(NOT EXISTS "${moka_third_party}/complete")
  moka_build_third_party("${moka_third_party}" "${flags}")
endif()
# Should the cache be removed under a build folder, that configures itself again.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${moka_third_party}/complete")
include(cmake/moka-libraries.cmake)
moka_declare_libraries("${moka_third_party}/lib" "${moka_third_party}/include")

# ---- decompression ----------------------------------------------------------

# Zstandard, for the converter alone: programs that embed the library do not need
# it, so it is no part of what is built and installed above. Only what decodes:
# ten small C files, a second or two in each build folder. Its assembly is left
# out, for one result on every compiler. Optimised in every configuration.
if(MOKA_BUILD_TOOLS OR MOKA_BUILD_TESTS)
  moka_need_sources(zstd)
  set(zstd "${moka_sources_dir}/zstd/lib")
  add_library(moka_zstd STATIC EXCLUDE_FROM_ALL
    "${zstd}/common/debug.c" "${zstd}/common/entropy_common.c" "${zstd}/common/error_private.c"
    "${zstd}/common/fse_decompress.c" "${zstd}/common/xxhash.c" "${zstd}/common/zstd_common.c"
    "${zstd}/decompress/huf_decompress.c" "${zstd}/decompress/zstd_ddict.c"
    "${zstd}/decompress/zstd_decompress.c" "${zstd}/decompress/zstd_decompress_block.c")
  add_library(moka_dep::zstd ALIAS moka_zstd)
  target_include_directories(moka_zstd SYSTEM INTERFACE "${zstd}")
  target_compile_definitions(moka_zstd PRIVATE
    ZSTD_DISABLE_ASM=1 ZSTD_LEGACY_SUPPORT=0 ZSTD_TRACE=0 XXH_NAMESPACE=ZSTD_ DEBUGLEVEL=0)
  target_compile_options(moka_zstd PRIVATE -O2 -w)
  set_target_properties(moka_zstd PROPERTIES
    POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)
endif()

# ---- headers ----------------------------------------------------------------

include(CheckCXXSourceCompiles)
set(CMAKE_REQUIRED_QUIET ON)  # "Failed" would look like a fault

# Declares the header-only library moka_dep::<name>.
#   HEADER    what sources include
#   REQUIRES  preprocessor condition on its version, met by a system's that will do
#   TREE      folder in a pinned source, if the system's will not do
#   PACKAGE   without TREE: what to install
# It gets an include folder with a link to this library and nothing else: a
# cross-compiler must not be shown the host's /usr/include, and no source can
# pick up by accident what happens to be installed beside it.
function(moka_header_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "HEADER;REQUIRES;TREE;PACKAGE" "")
  add_library(moka_dep_${name} INTERFACE)
  add_library(moka_dep::${name} ALIAS moka_dep_${name})

  if(arg_REQUIRES)
    check_cxx_source_compiles(
      "#include <${arg_HEADER}>\n#if !(${arg_REQUIRES})\n#error\n#endif\nint main() {}"
      MOKA_SYSTEM_${name})
    if(MOKA_SYSTEM_${name})
      return()
    endif()
  endif()
  if(arg_TREE)
    string(REGEX REPLACE "/.*" "" tree "${arg_TREE}")
    moka_need_sources(${tree})
    set(folder "${moka_sources_dir}/${arg_TREE}")
  else()
    find_path(MOKA_${name}_INCLUDE_DIR "${arg_HEADER}" NO_CMAKE_FIND_ROOT_PATH)
    mark_as_advanced(MOKA_${name}_INCLUDE_DIR)
    set(folder "${MOKA_${name}_INCLUDE_DIR}")
    if(NOT folder)
      message(FATAL_ERROR "${arg_HEADER} was not found; install ${arg_PACKAGE}.")
    endif()
  endif()

  string(REGEX REPLACE "/.*" "" top "${arg_HEADER}")
  set(include "${PROJECT_BINARY_DIR}/include/${name}")
  file(MAKE_DIRECTORY "${include}")
  file(CREATE_LINK "${folder}/${top}" "${include}/${top}" SYMBOLIC)
  target_include_directories(moka_dep_${name} SYSTEM INTERFACE "${include}")
endfunction()

# The generated header insists on the version that it was generated by.
moka_header_library(flatbuffers
  HEADER flatbuffers/flatbuffers.h TREE flatbuffers/include
  REQUIRES "FLATBUFFERS_VERSION_MAJOR == 23 && FLATBUFFERS_VERSION_MINOR == 5 && FLATBUFFERS_VERSION_REVISION == 26")
moka_header_library(xxhash HEADER xxhash.h PACKAGE "xxHash (Debian: libxxhash-dev)")
# Empty, not 1, so that a source which defines it for itself agrees.
target_compile_definitions(moka_dep_xxhash INTERFACE XXH_INLINE_ALL=)
if(MOKA_BUILD_TOOLS OR MOKA_BUILD_TESTS)
  moka_header_library(json
    HEADER nlohmann/json.hpp PACKAGE "nlohmann/json (Debian: nlohmann-json3-dev)")
  moka_header_library(cli11 HEADER CLI/CLI.hpp PACKAGE "CLI11 (Debian: libcli11-dev)")
  # One file, decoder only, built with the command: its chunks of text, its files and
  # its encoder stay out.
  moka_header_library(lodepng HEADER lodepng.h TREE lodepng)
  target_compile_definitions(moka_dep_lodepng INTERFACE LODEPNG_NO_COMPILE_ENCODER
    LODEPNG_NO_COMPILE_DISK LODEPNG_NO_COMPILE_ANCILLARY_CHUNKS LODEPNG_NO_COMPILE_CPP)
endif()
if(MOKA_BUILD_TESTS)
  moka_header_library(doctest
    HEADER doctest/doctest.h TREE doctest
    REQUIRES "DOCTEST_VERSION_MAJOR == 2 && DOCTEST_VERSION_MINOR * 100 + DOCTEST_VERSION_PATCH >= 411")
endif()
