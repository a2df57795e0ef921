# `cmake --install build/release --prefix DIR`: the command, the libraries with their
# headers, and what other builds need to find them (CMake's find_package(moka) and
# pkg-config). The library folder has libmoka.so, for C. All archives go to a folder
# of Moka's own: so -lmoka means one thing in each, and those of XNNPACK and its
# companions meet no other copy that the system may have.
#
# Components, for packages (platforms/linux): command, library, development, licence.
if(NOT TARGET moka)
  return()
endif()
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(libraries "${CMAKE_INSTALL_LIBDIR}/moka")
set(package "${CMAKE_INSTALL_LIBDIR}/cmake/moka")

install(TARGETS moka moka_c_static EXPORT moka-targets
  ARCHIVE DESTINATION "${libraries}" COMPONENT development
  INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
# An export of its own: programs in C find it without what the archives need.
install(TARGETS moka_c EXPORT moka-c-targets
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT library NAMELINK_COMPONENT development
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development  # Windows: what is linked
  RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT library
  INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(DIRECTORY runtime/include/ platforms/capi/include/
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT development FILES_MATCHING PATTERN "*.h")
install(DIRECTORY "${moka_third_party}/lib/" DESTINATION "${libraries}" COMPONENT development)
install(FILES LICENSE NOTICE DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT licence)
if(TARGET moka_cli)
  install(TARGETS moka_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT command)
endif()

install(EXPORT moka-targets NAMESPACE moka:: DESTINATION "${package}"
  COMPONENT development)
install(EXPORT moka-c-targets NAMESPACE moka:: DESTINATION "${package}"
  COMPONENT development)
configure_package_config_file(cmake/moka-config.cmake.in moka-config.cmake
  INSTALL_DESTINATION "${package}" PATH_VARS libraries)
write_basic_package_version_file(moka-config-version.cmake COMPATIBILITY SameMinorVersion)
install(
  FILES "${CMAKE_CURRENT_BINARY_DIR}/moka-config.cmake"
        "${CMAKE_CURRENT_BINARY_DIR}/moka-config-version.cmake"
        cmake/moka-libraries.cmake
  DESTINATION "${package}" COMPONENT development)

# The way from a .pc file to the prefix: a library folder may have several levels, as Debian's have.
file(RELATIVE_PATH pc_to_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" pc_to_prefix "${pc_to_prefix}")
foreach(name IN ITEMS moka moka-c)
  configure_file(cmake/${name}.pc.in ${name}.pc @ONLY)
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/${name}.pc"
    DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT development)
endforeach()
