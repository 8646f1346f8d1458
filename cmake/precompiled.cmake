# -DPMFS_PCH=ON: every C++ target takes the standard headers, and the tests Catch's too, from one precompiled header
# each: for a build from scratch. Off by default: with it a missing #include goes unseen, and a compiler cache
# serves better.
add_library(pmfs_pch OBJECT ${CMAKE_SOURCE_DIR}/cmake/empty.cc)
target_precompile_headers(pmfs_pch PRIVATE
  <algorithm> <array> <atomic> <chrono> <cstring> <filesystem> <functional> <map> <memory> <mutex> <optional> <random>
  <span> <string> <string_view> <system_error> <thread> <unordered_map> <utility> <vector>)
find_package(Catch2 REQUIRED)
add_library(pmfs_test_pch OBJECT ${CMAKE_SOURCE_DIR}/cmake/empty.cc)
target_link_libraries(pmfs_test_pch PRIVATE Catch2::Catch2 fmt::fmt Threads::Threads)
target_precompile_headers(pmfs_test_pch PRIVATE
  <algorithm> <array> <atomic> <chrono> <cstring> <filesystem> <fstream> <functional> <map> <memory> <mutex> <optional>
  <random> <span> <string> <string_view> <system_error> <thread> <unordered_map> <utility> <vector>
  <fmt/format.h> <catch2/catch.hpp>)

function(pmfs_precompile dir)
  get_property(subdirs DIRECTORY ${dir} PROPERTY SUBDIRECTORIES)
  foreach(sub ${subdirs})
    pmfs_precompile(${sub})
  endforeach()
  get_property(targets DIRECTORY ${dir} PROPERTY BUILDSYSTEM_TARGETS)
  foreach(t ${targets})
    get_target_property(type ${t} TYPE)
    if(NOT type MATCHES "LIBRARY|EXECUTABLE" OR t STREQUAL pmfs_test_main OR t MATCHES "_pch$")
      continue()
    endif()
    get_target_property(sources ${t} SOURCES)
    if(NOT sources MATCHES "\\.cc")  # C
      continue()
    endif()
    get_target_property(libs ${t} LINK_LIBRARIES)
    if(libs MATCHES "pmfs_test_main|Catch2")
      target_precompile_headers(${t} REUSE_FROM pmfs_test_pch)
    else()
      target_precompile_headers(${t} REUSE_FROM pmfs_pch)
    endif()
  endforeach()
endfunction()
pmfs_precompile(${CMAKE_SOURCE_DIR})
