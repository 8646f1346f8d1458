// How many owners a block has, where that is more than one: a B+tree of runs of blocks. What is not in it has one owner
// or none; the bitmap knows which. An owner is an extent record with the SHARED flag, of a file or of what is on the
// deferred-free list.
//
// Not thread-safe (meta mutex). Members that change something must be called in a transaction.
// Source: the reference count B+tree of XFS (xfs_refcount.c).
#pragma once

#include <vector>

#include "pmfs/meta/btree.h"
#include "pmfs/meta/media.h"

namespace pmfs::meta {

class SharedBlocks {
 public:
  explicit SharedBlocks(Media& m) : tree_(m.pop, &m.root->shared, 0) {}

  void add(Extent e);  // each block has one more owner; it has one at least
  // One fewer. Returns the blocks that have none now: to be given back to the bitmap.
  std::vector<Extent> drop(Extent e);
  bool any(Extent e) const;  // some block has several
  template <class F>
  void visit(F&& fn) const {  // fn(extent, owners)
    tree_.visit(0, [&](const Record& r) {
      fn(Extent{Pfn(r.key), r.a}, r.b);
      return true;
    });
  }
  bool check(uint64_t pool_bytes, std::vector<std::string>* findings) const {
    return tree_.check("shared blocks", pool_bytes, findings);
  }

 private:
  struct Run {
    Extent blocks;
    uint64_t owners;
  };
  std::vector<Record> overlapping(Extent e) const;
  void put(const Run& r);
  std::vector<Run> cut_out(Extent e);
  BTree tree_;
};

}  // namespace pmfs::meta
