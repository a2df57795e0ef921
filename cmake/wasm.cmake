# Cross-compiling to WebAssembly with Emscripten, 3.1.50 or newer. SIMD and exceptions are WebAssembly's
# own; what is built runs in Node and, without files, in browsers.
find_program(MOKA_EM_CONFIG em-config REQUIRED)
execute_process(COMMAND "${MOKA_EM_CONFIG}" EMSCRIPTEN_ROOT
  OUTPUT_VARIABLE root OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
include("${root}/cmake/Modules/Platform/Emscripten.cmake")
set(CMAKE_C_FLAGS_INIT "-msimd128 -fwasm-exceptions")
set(CMAKE_CXX_FLAGS_INIT "-msimd128 -fwasm-exceptions")
# Headers alone, of no platform: CMake looks there for those that moka_header_library() names.
list(APPEND CMAKE_SYSTEM_PREFIX_PATH /usr/local /usr)
