# Cross-compiling to WebAssembly with Emscripten, 3.1.50 or newer. SIMD and exceptions are WebAssembly's
# own; what is built runs in Node and, without files, in browsers. With MOKA_WASM_THREADS all of it, the
# dependencies too, is compiled for memory that threads share, and needs such memory then.
find_program(MOKA_EM_CONFIG em-config REQUIRED)
execute_process(COMMAND "${MOKA_EM_CONFIG}" EMSCRIPTEN_ROOT
  OUTPUT_VARIABLE root OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
include("${root}/cmake/Modules/Platform/Emscripten.cmake")
set(flags "-msimd128 -fwasm-exceptions")
if(MOKA_WASM_THREADS)
  string(APPEND flags " -pthread")
endif()
set(CMAKE_C_FLAGS_INIT "${flags}")
set(CMAKE_CXX_FLAGS_INIT "${flags}")
# Headers alone, of no platform: CMake looks there for those that moka_header_library() names.
list(APPEND CMAKE_SYSTEM_PREFIX_PATH /usr/local /usr)
