// Writes what was saved into a new pool. The old one is only read, so a repair that is cut short or fails has changed
// nothing.
#pragma once

#include <filesystem>

#include "pmfs/fsck/salvage.h"
#include "pmfs/region/raw.h"

namespace pmfs::fsck {

// Gives every clone of `v` blocks of its own, with a copy of the data (`region`: only its free blocks
// are written). Throws Error(ENOSPC, EIO).
void copy_clones(Saved* v, RawRegion& region);

// Makes the pool `path` (EEXIST) with all of `v`: same inode numbers, names, attributes, extents, uuid. Throws
// Error(ENOSPC); the file is gone then.
void rebuild(const Saved& v, const std::filesystem::path& path, const Progress& progress);

}  // namespace pmfs::fsck
