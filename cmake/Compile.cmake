# How Moka's own code is compiled. Nothing here is global: the flags go to the
# targets that ask for them, so a project that embeds Moka keeps its own.

option(MOKA_WERROR "Treat warnings as errors" OFF)
set(MOKA_SANITIZE "" CACHE STRING "Sanitizers for Moka's code, as in 'address,undefined'")

function(moka_compile_options target)
  target_compile_features(${target} PUBLIC cxx_std_17)
  set(independent ON)
  if(EMSCRIPTEN)  # a module is linked as a whole, and would pay for nothing
    set(independent OFF)
  endif()
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF
    POSITION_INDEPENDENT_CODE ${independent}
    # What a shared library made from these objects exports is said by the C API,
    # not by what happens to be there.
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}")

  # -Wconversion without -Wsign-conversion: a size or index that changes sign is
  # everywhere where pointers meet int32_t fields, and the loader has checked
  # the ranges; a value that loses bits is what we want to hear of. (GCC leaves
  # signs out of -Wconversion in C++ anyway, clang does not.)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
    # No a*b+c behind our back: it rounds differently, and where compilers use
    # it differs. Kernels that want a fused multiply-add say so.
    -ffp-contract=off
    # Each function in a section of its own, so that the linker can leave out what
    # nobody calls.
    -ffunction-sections -fdata-sections)
  if(APPLE)
    target_link_options(${target} PRIVATE -Wl,-dead_strip)
  else()
    target_link_options(${target} PRIVATE -Wl,--gc-sections)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # A note about how GCC 7 passed arguments; nothing of ours is that old.
    target_compile_options(${target} PRIVATE -Wno-psabi)
  endif()
  if(MOKA_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # From GCC 13 on it guesses sizes after inlining, and errs where it does.
      target_compile_options(${target} PRIVATE -Wno-error=stringop-overflow)
    endif()
  endif()

  if(MOKA_SANITIZE)
    set(sanitize "-fsanitize=${MOKA_SANITIZE}" -fno-omit-frame-pointer)
    if(NOT MOKA_SANITIZE MATCHES "thread")
      list(APPEND sanitize -fno-sanitize-recover=all)
    endif()
    target_compile_options(${target} PRIVATE ${sanitize})
    target_link_options(${target} PUBLIC ${sanitize})
  endif()
  if(MOKA_BUILD_FUZZERS)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()
