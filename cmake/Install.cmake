# `cmake --install build/release --prefix DIR`: the command, the library with its
# headers, and what other builds need to find it (CMake's find_package(moka) and
# pkg-config). The archives of XNNPACK and its companions go to a folder of
# Moka's own, so that they meet no other copy that the system may have.
if(NOT TARGET moka)
  return()
endif()
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(libraries "${CMAKE_INSTALL_LIBDIR}/moka")
set(package "${CMAKE_INSTALL_LIBDIR}/cmake/moka")

install(TARGETS moka EXPORT moka-targets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(DIRECTORY runtime/include/ DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h")
install(DIRECTORY "${moka_third_party}/lib/" DESTINATION "${libraries}")
install(FILES LICENSE NOTICE DESTINATION "${CMAKE_INSTALL_DOCDIR}")
if(TARGET moka_cli)
  install(TARGETS moka_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()

install(EXPORT moka-targets NAMESPACE moka:: DESTINATION "${package}")
configure_package_config_file(cmake/moka-config.cmake.in moka-config.cmake
  INSTALL_DESTINATION "${package}" PATH_VARS libraries)
write_basic_package_version_file(moka-config-version.cmake COMPATIBILITY SameMinorVersion)
install(
  FILES "${CMAKE_CURRENT_BINARY_DIR}/moka-config.cmake"
        "${CMAKE_CURRENT_BINARY_DIR}/moka-config-version.cmake"
        cmake/moka-libraries.cmake
  DESTINATION "${package}")

configure_file(cmake/moka.pc.in moka.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/moka.pc"
  DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
