# What a program needs to be built against libpmfs, and Debian packages (cpack -G DEB), one for each component.
include(CMakePackageConfigHelpers)

# --- library, development
set(cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/pmfs)
install(TARGETS pmfs EXPORT pmfsTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library NAMELINK_COMPONENT development)
install(EXPORT pmfsTargets NAMESPACE pmfs:: FILE pmfsTargets.cmake DESTINATION ${cmake_dir} COMPONENT development)
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${CMAKE_BINARY_DIR}/cmake/pmfsConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES cmake/pmfsConfig.cmake ${CMAKE_BINARY_DIR}/cmake/pmfsConfigVersion.cmake DESTINATION ${cmake_dir}
  COMPONENT development)
install(DIRECTORY include/pmfs DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)
install(FILES docs/man/libpmfs.3 DESTINATION ${CMAKE_INSTALL_MANDIR}/man3 COMPONENT development)
pmfs_install_configured(cmake/pmfs.pc ${CMAKE_INSTALL_LIBDIR}/pkgconfig development)

# --- packages
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME pmfs)
set(CPACK_PACKAGE_CONTACT "pmfs developers <pmfs@localhost>")
set(CPACK_SET_DESTDIR ON)  # the prefix is /usr while it is installed, too
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR}/packages)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL library runtime development)
if(PMFS_PYTHON)
  list(APPEND CPACK_COMPONENTS_ALL python)
endif()
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_LIBRARY_OUTPUT_DIRECTORY})
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
function(pmfs_package component name section summary text)
  string(TOUPPER ${component} c)
  set(CPACK_DEBIAN_${c}_PACKAGE_NAME ${name} PARENT_SCOPE)
  set(CPACK_DEBIAN_${c}_PACKAGE_SECTION ${section} PARENT_SCOPE)
  set(CPACK_DEBIAN_${c}_DESCRIPTION "${summary}\n${text}" PARENT_SCOPE)
endfunction()
pmfs_package(library libpmfs0 libs "files of persistent memory, mapped straight: library"
  "The client library of pmfs, a file manager for byte-addressable persistent memory (DAX).")
pmfs_package(runtime pmfs utils "file manager for persistent memory"
  "Makes volumes, serves and mounts them, checks them; with a preload library that gives programs direct mappings.")
pmfs_package(development libpmfs-dev libdevel "files of persistent memory, mapped straight: headers"
  "To build programs against libpmfs, in C and C++20, with CMake or pkg-config.")
pmfs_package(python python3-pmfs python "files of persistent memory, mapped straight: Python module"
  "Mapped files of pmfs as memoryviews and numpy arrays.")
# The commands use the library's private symbols (lib/pmfs.map), so it has to be of their own version.
set(same_library "libpmfs0 (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_DEPENDS "${same_library}, fuse3")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "${same_library}")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SHLIBDEPS OFF)
set(CPACK_DEBIAN_PYTHON_PACKAGE_DEPENDS "${same_library}, python3 (>= 3.11)")
set(CPACK_DEBIAN_PYTHON_PACKAGE_SUGGESTS python3-numpy)
set(CPACK_DEBIAN_PYTHON_PACKAGE_SHLIBDEPS OFF)
include(CPack)
