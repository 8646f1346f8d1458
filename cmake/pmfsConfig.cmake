# find_package(pmfs): the target pmfs::pmfs, the client library.
include(${CMAKE_CURRENT_LIST_DIR}/pmfsTargets.cmake)
