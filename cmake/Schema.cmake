# The header generated from schema/moka.fbs is committed, so that no build, and
# above all no cross-build, needs the FlatBuffers compiler. Two targets keep it
# in step with the schema; both build that compiler first (a minute, once).
#   schema-update   rewrite schema/moka_generated.h after a change of the schema
#   schema-check    fail if it is not what the schema gives
foreach(action IN ITEMS update check)
  add_custom_target(schema-${action}
    COMMAND "${CMAKE_COMMAND}" -DACTION=${action}
      "-DROOT=${PROJECT_SOURCE_DIR}" "-DSOURCES=${moka_sources_dir}" "-DTOOLS=${moka_deps_dir}/built/flatc"
      -P "${PROJECT_SOURCE_DIR}/cmake/generate-schema.cmake"
    USES_TERMINAL VERBATIM)
endforeach()
