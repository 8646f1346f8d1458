// Room to free with. libpmemobj may need memory to give memory back (an index node when a hole splits an
// extent, the deferred record, transaction logs), so a full pool could not be emptied. Ballast is a list of
// objects of index-node size, allocated by format; a freeing operation that found the pool full lets them go
// and runs again with logs of its own, allocating node-sized objects only: it gets the ballast's places.
//
// Not thread-safe (meta mutex).
#pragma once

#include "pmfs/meta/media.h"

namespace pmfs::meta {

class Ballast {
 public:
  static constexpr uint64_t kFull = 96;
  // The most one freeing operation can need, with room: growing stops when no more than this is left.
  static constexpr uint64_t kLeast = 48;

  explicit Ballast(Media& m) : m_(m) {}

  void make();  // in format's transaction
  bool full() const { return m_.root->ballast_count >= kFull; }
  bool low() const { return m_.root->ballast_count < kLeast; }
  void release();  // own transaction: all of it back to the heap
  void refill();   // own transactions, as far as the heap has room
  transaction::logs logs() const;     // for an operation
  transaction::logs reserve() const;  // for one that is to get the ballast's places

 private:
  void add();
  void reopen_runs();
  Media& m_;
};

}  // namespace pmfs::meta
