// What regions in files have in common: making, checking and extending the file. For the files of this folder only.
#pragma once

#include <functional>
#include <string>

#include "pmfs/base/unique_fd.h"
#include "pmfs/region/region.h"

namespace pmfs {

// Blocks: address space, not memory: what a region can grow to without a new mapping, which would move its addresses.
uint64_t room_for(uint64_t blocks);

// Opens, takes the lock that says that a manager has it, and sees that its size is what the superblock says (a file: cut
// back after a grow that was cut short). Throws Error naming the path for a foreign, truncated or busy one.
UniqueFd open_region_file(const std::string& path, uint64_t blocks, const RegionOptions& o);

// Appends blocks [from, to), allocated by the file system; `write`: zeros are written to them, so that no store has to wait
// for the file system later. Throws Error(ENOSPC); the file may then be longer than it was.
void extend_file(int fd, const std::string& path, uint64_t from, uint64_t to, bool write, const RegionProgress& progress);

}  // namespace pmfs
