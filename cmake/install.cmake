# Where things are installed, by components: library, runtime (the commands), development, python. cmake/package.cmake makes a
# package of each.

# Debian's place for libraries under any prefix: ld.so, pkg-config and CMake look there in /usr and in /usr/local.
if(EXISTS /etc/debian_version AND CMAKE_LIBRARY_ARCHITECTURE AND NOT DEFINED CMAKE_INSTALL_LIBDIR)
  set(CMAKE_INSTALL_LIBDIR lib/${CMAKE_LIBRARY_ARCHITECTURE} CACHE PATH "libraries, below the prefix")
endif()
include(GNUInstallDirs)

# Installs ${name}.in as ${name}, configured with the prefix of the installation itself, PMFS_PREFIX: `cmake --install
# --prefix` and CPack choose another than the one that was configured.
function(pmfs_install_configured name destination component)
  set(PMFS_PREFIX "@PMFS_PREFIX@")
  configure_file(${name}.in ${CMAKE_CURRENT_BINARY_DIR}/${name}.in @ONLY)
  get_filename_component(file ${name} NAME)
  install(CODE "
    set(PMFS_PREFIX \"\${CMAKE_INSTALL_PREFIX}\")
    set(to \"\${CMAKE_INSTALL_PREFIX}/${destination}/${file}\")
    message(STATUS \"Installing: \$ENV{DESTDIR}\${to}\")
    configure_file(\"${CMAKE_CURRENT_BINARY_DIR}/${name}.in\" \"\$ENV{DESTDIR}\${to}\" @ONLY)
    list(APPEND CMAKE_INSTALL_MANIFEST_FILES \"\${to}\")"
    COMPONENT ${component})
endfunction()
