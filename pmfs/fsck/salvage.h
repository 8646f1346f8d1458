// Reads everything in a metadata pool that can be believed, and says what can't: the checks of fsck, and at the same
// time the volume as a repair would make it. Believes no pointer, count or list; only what it could read twice over:
// the inode table's pages, the trees below the inodes.
#pragma once

#include <map>
#include <set>

#include "pmfs/base/types.h"
#include "pmfs/fsck/finding.h"
#include "pmfs/fsck/pool_view.h"
#include "pmfs/meta/store.h"
#include "pmfs/region/raw.h"

namespace pmfs::fsck {

struct SavedInode {
  meta::InodeMedia media{};  // attributes; its trees and lists mean nothing any more
  std::vector<FileExtent> extents;
  std::map<std::string, uint64_t> names;  // of a directory: name -> ino
  std::string target;                     // of a symbolic link
  std::map<std::string, std::vector<std::byte>> xattrs;
};

struct Clone {  // blocks that another file claimed for itself alone: this one gets a copy
  Extent from;
  uint64_t ino = 0;
  Pgoff pgoff;
};

struct Saved {
  meta::SuperblockMedia sb{};
  uint64_t mount_epoch = 0, growing_to = 0;
  std::map<uint64_t, SavedInode> inodes;  // by ino; the root is there
  std::vector<Clone> clones;
  std::vector<meta::Quota> quotas;  // the limits; usage is counted again
  uint64_t lost = 0;     // things that could not be kept: names, extents, inodes
};

struct Outcome {
  Saved saved;
  std::vector<Finding> findings;  // at most kMostFindings
  uint64_t found = 0;             // all of them, also the ones not listed
};
inline constexpr size_t kMostFindings = 10'000;

// `region`: what there really is. Throws Error only when memory is short.
Outcome salvage(const PoolView& pool, const RawRegion& region, const Progress& progress);

}  // namespace pmfs::fsck
