// Placement: the blocks reserved ahead for one inode, so that neighbouring pages of a file get neighbouring
// blocks even when they are touched in random order (one client VMA then serves a whole 2 MiB window), and
// large files get 2 MiB-aligned ones. Reservations are volatile: a crash returns them.
//
// Guarded by Inode::alloc_mutex.
#pragma once

#include <map>
#include <optional>

#include "pmfs/base/types.h"
#include "pmfs/meta/store.h"

namespace pmfs {

class Placement {
 public:
  explicit Placement(meta::Store& store) : store_(store) {}
  ~Placement() { release(PageRange{Pgoff(0), kEndOfFile}); }
  Placement(const Placement&) = delete;
  Placement& operator=(const Placement&) = delete;

  // At most `want` reserved blocks for the pages from `p` on, all inside `hole` (which contains p and has no
  // blocks). They are the caller's now: to commit, or to unreserve. `file_pages`: the file's size. `before`:
  // the extent that ends where the hole begins, if any. Throws Error(ENOSPC).
  FileExtent take(Pgoff p, uint64_t want, PageRange hole, uint64_t file_pages,
                  const std::optional<FileExtent>& before);
  // Gives up what is reserved for `r`. Returns blocks given up.
  uint64_t release(PageRange r);
  uint64_t blocks() const { return blocks_; }

 private:
  void reserve_window(Pgoff p, uint64_t want, PageRange hole, uint64_t file_pages,
                      const std::optional<FileExtent>& before);
  std::map<Pgoff, FileExtent>::iterator find(Pgoff p);

  meta::Store& store_;
  std::map<Pgoff, FileExtent> runs_;  // reserved, not handed out; keyed by first page, disjoint
  uint64_t blocks_ = 0;
};

}  // namespace pmfs
