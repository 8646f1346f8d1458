// Where the integration tests make their volumes: on tmpfs, or what the environment names, as in the guest of tools/vm:
// PMFS_TEST_DIR, a directory on ext4 or xfs with DAX; PMFS_TEST_DEVDAX, a device for the data, and then the rest is in that directory.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "pmfs/fs/volume.h"

namespace pmfs::test {

inline std::string volumes_parent() {
  const char* dir = std::getenv("PMFS_TEST_DIR");
  return dir != nullptr ? dir : "/dev/shm";
}

inline bool volumes_on_dax() { return std::getenv("PMFS_TEST_DIR") != nullptr || std::getenv("PMFS_TEST_DEVDAX") != nullptr; }

// `unit_blocks`: 0: as format_volume() chooses.
inline void format_test_volume(const std::filesystem::path& dir, uint64_t blocks, uint64_t unit_blocks = 0) {
  FormatOptions o;
  o.blocks = blocks;
  o.unit_blocks = unit_blocks;
  o.sparse = true;
  if (const char* device = std::getenv("PMFS_TEST_DEVDAX")) {
    o.device = device;
    o.force = true;  // the last test's
  }
  format_volume(dir, o);
}

}  // namespace pmfs::test
