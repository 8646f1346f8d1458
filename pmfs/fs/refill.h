// Refill: zeroes free blocks ahead of their use in the background, so that a fault need not wait for memory. A
// region on a tmpfs then behaves as pmem does, whose memory is always there. Not for sparse volumes.
#pragma once

#include <atomic>
#include <deque>
#include <thread>

#include "pmfs/base/mutex.h"
#include "pmfs/meta/store.h"
#include "pmfs/region/region.h"

namespace pmfs {

class Refill {
 public:
  // `enabled` false: add() does nothing and no thread runs.
  Refill(Region& region, meta::Store& store, bool enabled);
  ~Refill();
  // Freed blocks, to be zeroed some time. Any thread, any lock of rank below kLeaf.
  void add(Extent e);
  // Waits until no block is reserved by this thread, at most one chunk's zeroing; it stays so for a moment.
  void quiesce();

 private:
  void run();
  void refill(Extent e);
  bool next(Extent* e);

  Region& region_;
  meta::Store& store_;
  Mutex mutex_{LockRank::kLeaf, "refill"};
  CondVar wake_, idle_;
  std::deque<Extent> queue_ GUARDED_BY(mutex_);
  bool asleep_ GUARDED_BY(mutex_) = false;  // until add() wakes it
  bool busy_ GUARDED_BY(mutex_) = false;   // a chunk is reserved
  bool pause_ GUARDED_BY(mutex_) = false;  // somebody is short of space
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace pmfs
