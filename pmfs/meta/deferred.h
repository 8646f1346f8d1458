// The deferred-free list: blocks that left their inode but may still have PTEs somewhere. Their bits stay set
// until finish() after the zap. Survives a crash; its index by id is rebuilt at open.
//
// Not thread-safe (meta mutex). add() and finish_some() must be called in a transaction; what they change in
// DRAM is put in place by committed_...() afterwards, so that a transaction can fail or be run again.
#pragma once

#include <unordered_map>
#include <vector>

#include "pmfs/meta/bitmap.h"
#include "pmfs/meta/extent_map.h"
#include "pmfs/meta/shared_blocks.h"

namespace pmfs::meta {

class Deferred {
 public:
  explicit Deferred(Media& m);  // EUCLEAN if the list is damaged

  uint64_t add(const ExtentMap::Taken& t);  // the id
  void committed_add(uint64_t id);

  struct Progress {
    std::vector<Extent> freed;
    std::vector<Extent> unzapped;  // of them: shared blocks that lost their last owner; they never had a PTE
    size_t emptied = 0;  // media blocks of the record, from its end
    bool done = false;
  };
  // Gives back a bounded number of blocks and shortens the record accordingly: the rest is still there under
  // the same id if the power fails between two calls.
  Progress finish_some(uint64_t id, BlockBitmap& bitmap, SharedBlocks& shared);
  void committed_finish(uint64_t id, const Progress& p);

  bool known(uint64_t id) const { return index_.contains(id); }
  std::vector<Removed> all() const;  // by id; without shared blocks
  // Whether there can be a record at `off`: of check() and of open.
  static bool plausible(const Media& m, uint64_t off);

 private:
  using Block = persistent_ptr<DeferredMedia>;
  void unlink(Block b);
  std::vector<Extent> extents_of(const DeferredMedia* b) const;
  Media& m_;
  std::unordered_map<uint64_t, std::vector<Block>> index_;
  std::vector<Block> added_;  // by the transaction that is running
};

}  // namespace pmfs::meta
