// Damages a volume on purpose, by a seed, in the ways media and bugs do.
#pragma once

#include <filesystem>
#include <string>

#include "tools/crash/image.h"

namespace pmfs::crash {

struct Damage {
  std::string text;         // what was done
  uint64_t meta_bytes = 0;  // the pool is to be cut to this size; 0: not
  uint64_t data_bytes = 0;  // the region
};

// Changes `image` (take it back with back_to()) as case number `n` says. `stale`: the same volume at an earlier time.
Damage damage(Image& image, Image& stale, uint64_t n, uint64_t seed);

}  // namespace pmfs::crash
