# For developers; none of these is part of a build.
#   format         rewrite the C++ sources as .clang-format says
#   format-check   fail if that would change any
#   tidy           clang-tidy, over what this build compiles
#   lint           format-check, tidy, and shellcheck over the scripts
foreach(tool IN ITEMS clang-format run-clang-tidy shellcheck)
  string(MAKE_C_IDENTIFIER "MOKA_${tool}" variable)
  find_program(${variable} ${tool} NO_CMAKE_FIND_ROOT_PATH)
  mark_as_advanced(${variable})
endforeach()

file(GLOB_RECURSE sources RELATIVE "${PROJECT_SOURCE_DIR}" CONFIGURE_DEPENDS
  runtime/*.h runtime/*.cc converter/*.h converter/*.cc
  platforms/*.h platforms/*.cc tests/*.h tests/*.cc)

# moka_lint_target(<name> <tool> <command>...): says what is missing only when asked.
function(moka_lint_target name tool)
  string(MAKE_C_IDENTIFIER "MOKA_${tool}" variable)
  set(command ${ARGN})
  if(NOT ${variable})
    set(command "${CMAKE_COMMAND}" -E echo "target ${name} needs ${tool}, which is not installed"
      COMMAND "${CMAKE_COMMAND}" -E false)
  endif()
  add_custom_target(${name} COMMAND ${command}
    COMMENT "${name}" WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}" USES_TERMINAL VERBATIM)
endfunction()

moka_lint_target(format clang-format "${MOKA_clang_format}" -i ${sources})
moka_lint_target(format-check clang-format "${MOKA_clang_format}" --dry-run --Werror ${sources})
moka_lint_target(tidy run-clang-tidy
  "${MOKA_run_clang_tidy}" -quiet -extra-arg=-Wno-unknown-warning-option  # the compile commands may be GCC's
  -p "${PROJECT_BINARY_DIR}" "${PROJECT_SOURCE_DIR}/(runtime|converter|platforms|tests)/")
moka_lint_target(shell-check shellcheck
  "${MOKA_shellcheck}" -x demo.sh test.sh .ci/run cmake/setup.sh cmake/fetch-sources.sh tests/fuzz/run.sh)
add_custom_target(lint)
add_dependencies(lint format-check tidy shell-check)
