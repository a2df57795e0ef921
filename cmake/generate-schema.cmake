# Run by the targets of Schema.cmake: builds flatc in TOOLS from SOURCES/flatbuffers,
# generates the schema's header, and puts it in place (ACTION=update) or compares
# it with the one that is there (ACTION=check).
cmake_minimum_required(VERSION 3.25)
set(header "${ROOT}/schema/moka_generated.h")

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status)
  if(status)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "failed: ${command}")
  endif()
endfunction()

if(NOT EXISTS "${TOOLS}/flatc")
  if(NOT EXISTS "${SOURCES}/flatbuffers")
    run(sh "${ROOT}/cmake/fetch-sources.sh" "${SOURCES}" flatbuffers)
  endif()
  # For this machine, whatever the build around us is for: no settings go along.
  run("${CMAKE_COMMAND}" -S "${SOURCES}/flatbuffers" -B "${TOOLS}.build" -G Ninja --log-level=WARNING
    -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0  # half the time to build, and the schema is small
    -DFLATBUFFERS_BUILD_TESTS=OFF -DFLATBUFFERS_BUILD_FLATHASH=OFF -DFLATBUFFERS_INSTALL=OFF)
  run("${CMAKE_COMMAND}" --build "${TOOLS}.build" --target flatc)
  file(COPY "${TOOLS}.build/flatc" DESTINATION "${TOOLS}")
  file(REMOVE_RECURSE "${TOOLS}.build")
endif()

set(fresh "${TOOLS}/fresh")
file(REMOVE_RECURSE "${fresh}")
run("${TOOLS}/flatc" --cpp --cpp-std c++17 -o "${fresh}" "${ROOT}/schema/moka.fbs")
if(ACTION STREQUAL "update")
  file(COPY_FILE "${fresh}/moka_generated.h" "${header}" ONLY_IF_DIFFERENT)
  return()
endif()
file(SHA256 "${fresh}/moka_generated.h" want)
file(SHA256 "${header}" have)
if(NOT have STREQUAL want)
  message(FATAL_ERROR "schema/moka_generated.h is not what schema/moka.fbs gives; build the target schema-update")
endif()
message(STATUS "schema/moka_generated.h is what schema/moka.fbs gives")
