// Checks a volume that nobody has mounted, and repairs it.
#pragma once

#include <filesystem>

#include "pmfs/fsck/salvage.h"

namespace pmfs::fsck {

struct Options {
  bool repair = false;           // else nothing is written
  unsigned child_seconds = 300;  // for libpmemobj to open and check the pool, in a process of its own
  Progress progress;
};

struct Result {
  std::vector<Finding> findings;
  uint64_t found = 0;  // all of them: kMostFindings are listed
  uint64_t lost = 0;   // things that a repair could not keep (or could not, if it were done)
  uint64_t inodes = 0, directories = 0, blocks_used = 0, blocks_total = 0;
  bool repaired = false;
  std::string kept;  // the damaged pool, after a repair
  // As e2fsck's: 0 no damage, 1 repaired, 4 damage left.
  int exit_code() const { return found == 0 ? 0 : repaired ? 1 : 4; }
};

// Throws Error: EBUSY (mounted: who), ENOENT, EUCLEAN (nothing to start from), ENOTSUP (newer), ENOSPC. A repair that
// throws has changed nothing but free blocks.
Result run(const std::filesystem::path& dir, const Options& o);

}  // namespace pmfs::fsck
