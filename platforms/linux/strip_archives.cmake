# Run by cpack between installing and packing.
file(GLOB_RECURSE archives "${CPACK_TEMPORARY_DIRECTORY}/*.a")
foreach(archive IN LISTS archives)
  execute_process(COMMAND_ERROR_IS_FATAL ANY COMMAND "${CPACK_MOKA_STRIP}"
    --strip-debug --remove-section=.comment --remove-section=.note
    --enable-deterministic-archives "${archive}")
endforeach()
