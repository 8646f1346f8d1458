// TwoStateLock: two sides of which one is in at a time. Side kAdd (faults) is shared by any number; side kBlock
// (invalidates) by those whose ranges don't overlap, so over whole files it is exclusive and the lock a reader-writer
// lock. First come, first served.
//
//   request     | nobody queued, other side empty, no  | otherwise
//               | overlap with another kBlock          |
//   Lock        | granted                              | queued; granted in turn, or false: wounded
//   TryLock     | granted                              | false, nothing left
//   Unlock      | those at the head of the queue that fit now are granted, up to the first that doesn't
//
// Word: bit 0 QUEUED, bits 1-31 holders of kAdd, bits 32-62 of kBlock. Side kAdd uncontended: one compare-and-swap in,
// one fetch_sub out. The mutex guards the queue and the list of holders that have to be known by name. QUEUED is set
// before a waiter looks for the last time and keeps newcomers out, so neither side starves, and whoever makes the
// count of a side 0 after that finds it and grants: no wake-up is lost.
//
// Wound/wait, for operations that lock several files in an order not theirs to choose (WoundTicket): who waits wounds
// every younger ticket that holds the lock; a wounded one that has to wait, or waits, gets false, gives back all it
// has and tries again *with its age*, so that it becomes the oldest. Why no cycle is left: take the oldest of one. It
// waits at some lock, and the cycle leaves that lock through a holder, which is younger and so wounded, and which
// waits (it is in the cycle), so it backs out. That counts on everybody else, who has no ticket, holding one such lock
// only; who takes several in ino order instead (clone) may not run beside ticket holders on the same files.
//
// Source: the two_state_lock of bcachefs (pagecache add lock, 2019), Linux' ww_mutex for the wounding; both are unfair
// between the sides, hence the queue, which is the one addition.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>

#include "pmfs/base/mutex.h"
#include "pmfs/base/types.h"

namespace pmfs::exclusion {

enum class LockSide : uint8_t { kAdd, kBlock };

// One operation that locks several files; its age lasts over all its attempts. Used by one thread.
class WoundTicket {
 public:
  WoundTicket();
  WoundTicket(const WoundTicket&) = delete;
  WoundTicket& operator=(const WoundTicket&) = delete;
  void start();  // of an attempt: nothing is held
  bool older(const WoundTicket& o) const { return stamp_ < o.stamp_; }
  uint64_t times_wounded() const { return times_wounded_; }

 private:
  friend class TwoStateLock;
  void wound();  // by an older one

  const uint64_t stamp_;
  std::atomic<bool> wounded_{false};
  std::atomic<uint32_t> state_{0};  // of the wait it is in
  uint64_t times_wounded_ = 0;
};

class TwoStateLock {
 public:
  TwoStateLock(uint64_t lock_key, const char* name) : key_(lock_key), name_(name) {}  // the ino
  TwoStateLock(const TwoStateLock&) = delete;
  TwoStateLock& operator=(const TwoStateLock&) = delete;

  // Rank kSchemeLock. `r` counts for kBlock only. False: wounded (never without a ticket).
  bool Lock(LockSide side, PageRange r, WoundTicket* w = nullptr);
  bool TryLock(LockSide side, PageRange r, WoundTicket* w = nullptr);
  // With the same arguments, by the thread that locked.
  void Unlock(LockSide side, PageRange r, WoundTicket* w = nullptr);
  unsigned waiters() const;

 private:
  static constexpr uint64_t kQueued = 1, kAddOne = 2, kBlockOne = uint64_t{1} << 32;
  static constexpr uint64_t one(LockSide s) { return s == LockSide::kAdd ? kAddOne : kBlockOne; }
  struct Holder {
    LockSide side;
    PageRange range;
    WoundTicket* wound;
  };
  struct Waiter : Holder {
    std::atomic<uint32_t>* state;
  };
  bool try_add();
  bool fits(const Holder& h) const REQUIRES(mutex_);
  void admit(const Holder& h) REQUIRES(mutex_);
  void grant() REQUIRES(mutex_);
  bool wait(Waiter& me);

  const uint64_t key_;
  const char* const name_;
  std::atomic<uint64_t> word_{0};
  mutable Mutex mutex_{LockRank::kLeaf, "two-state lock queue"};
  std::list<Holder> named_ GUARDED_BY(mutex_);  // holders of kBlock, and those with a ticket
  std::list<Waiter*> queue_ GUARDED_BY(mutex_);
};

}  // namespace pmfs::exclusion
