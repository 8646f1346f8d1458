// RangeLock: byte-range (here: page-range) reader-writer lock, first come first served.
//
//   request            | no overlap with holders or earlier waiters | overlap, compatible (both shared, no earlier
//                      |                                            | exclusive waiter)  | otherwise
//   Lock shared        | granted                                    | granted            | queued
//   Lock exclusive     | granted                                    | -                  | queued
//   Try*               | granted                                    | granted (shared)   | nothing, false
//   Cancel a waiter    | leaves the queue, those behind it are looked at again
//
// Fair: a request never overtakes an earlier conflicting one, so neither readers nor writers starve.
// Source: Kara's range lock patches 2013, Shutemov's use in DAX 2015; Linux lib/range_lock (never merged).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "pmfs/base/mutex.h"
#include "pmfs/base/types.h"

namespace pmfs::exclusion {

enum class RangeMode : uint8_t { kShared, kExclusive };

// Lets another thread make a waiter give up: its Lock() returns nothing (ECANCELED to the user). Serves one Lock()
// at a time; stays cancelled.
class CancelToken {
 public:
  void cancel();
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }

 private:
  friend class RangeLock;
  std::atomic<bool> cancelled_{false};
  Mutex mutex_{LockRank::kCancel, "cancel token"};
  class RangeLock* waiting_in_ GUARDED_BY(mutex_) = nullptr;
};

class RangeLock {
 public:
  explicit RangeLock(uint64_t lock_key, LockRank rank = LockRank::kRange);  // the ino
  ~RangeLock();

  struct Holder;  // opaque
  using Ticket = Holder*;

  // Never returns null unless cancelled. Unlocked by the thread that locked.
  Ticket Lock(PageRange r, RangeMode m, CancelToken* cancel = nullptr);
  Ticket TryLock(PageRange r, RangeMode m);  // null: would have waited
  void Unlock(Ticket t);
  // For asserts: is some exclusive holder covering all of `r`?
  bool HeldExclusive(PageRange r) const;
  unsigned waiters() const;

 private:
  friend class CancelToken;
  void wake_cancelled();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pmfs::exclusion
