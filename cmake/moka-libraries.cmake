# Declares the compiled libraries that moka links, as moka_dep::<name>, given the
# folders of their archives and headers. Used by Moka's own build and, installed
# beside moka-config.cmake, by programs that find the installed Moka: a static
# library has to bring along what it needs.
include(CMakeFindDependencyMacro)
find_dependency(Threads)

function(moka_declare_libraries archives headers)
  set(libraries pthreadpool microkernels-prod XNNPACK utf8proc)
  if(NOT EMSCRIPTEN)  # there are no CPUs to tell apart
    list(APPEND libraries cpuinfo)
  endif()
  foreach(library IN LISTS libraries)
    add_library(moka_dep::${library} STATIC IMPORTED GLOBAL)
    set_target_properties(moka_dep::${library} PROPERTIES
      IMPORTED_LOCATION
        "${archives}/${CMAKE_STATIC_LIBRARY_PREFIX}${library}${CMAKE_STATIC_LIBRARY_SUFFIX}"
      INTERFACE_INCLUDE_DIRECTORIES "${headers}")
  endforeach()
  target_link_libraries(moka_dep::pthreadpool INTERFACE Threads::Threads)
  target_link_libraries(moka_dep::XNNPACK INTERFACE
    moka_dep::microkernels-prod moka_dep::pthreadpool)
  if(TARGET moka_dep::cpuinfo)
    target_link_libraries(moka_dep::cpuinfo INTERFACE Threads::Threads)
    target_link_libraries(moka_dep::XNNPACK INTERFACE moka_dep::cpuinfo)
  endif()
  if(UNIX)
    target_link_libraries(moka_dep::XNNPACK INTERFACE m)
  endif()
  if(ANDROID)  # the system's log, for what goes wrong in them
    target_link_libraries(moka_dep::XNNPACK INTERFACE log)
    target_link_libraries(moka_dep::cpuinfo INTERFACE log)
  endif()
  set_property(TARGET moka_dep::utf8proc PROPERTY INTERFACE_COMPILE_DEFINITIONS UTF8PROC_STATIC)
endfunction()
