// MarkQueue: where the faults of one tree sleep while a mark covers their page, and how they get their turn.
//
//   waiter   | mark cleared over its page     | its thread tried its page | next mark over its page
//   asleep   | -> granted, woken              | -                         | -
//   granted  | -                              | leaves                    | sleeps until it has left
//
// Why turns: an operation in a loop (punch, punch, punch...) clears its mark and sets the next within a
// microsecond, long before a woken fault runs. A mark therefore waits, before it is set, for those whom an earlier
// one has made wait: each has at least tried for its entry before it can be shut out again. The set it waits for
// is fixed at that moment and only shrinks, so a storm of faults can't hold an invalidate up for long either.
//
// No wake-up is lost: a waiter reads the marks and falls asleep under the mutex; grant() takes the mutex after
// the marks were cleared.
//
// Thread-safe. Its mutex is a leaf.
#pragma once

#include <atomic>

#include "pmfs/base/mutex.h"
#include "pmfs/base/types.h"

namespace pmfs::exclusion {

class MarkQueue {
 public:
  // One fault's place in the queue. Destroying it gives the turn up.
  class Turn {
   public:
    Turn(MarkQueue& q, Pgoff page) : queue_(q), page_(page) {}
    ~Turn() { done(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    // Sleeps unless `marked()`, read under the mutex, is false. On return from sleep the turn is granted.
    template <class Marked>
    void wait(Marked&& marked, std::atomic<unsigned>& asleep) {
      done();
      MutexLock l(queue_.mutex_);
      if (!marked()) return;
      link();
      ++asleep;
      while (!granted_) cv_.Wait(queue_.mutex_);
      --asleep;
    }
    // The turn was used: the entry is LOCKED now, or somebody else's.
    void done() {
      if (granted_) leave();  // only this thread reads or writes granted_ once it is set
    }

   private:
    friend class MarkQueue;
    void link() REQUIRES(queue_.mutex_);
    void leave();

    MarkQueue& queue_;
    const Pgoff page_;
    bool granted_ = false;
    CondVar cv_;
    Turn* next_ = nullptr;
  };

  // Invalidate side, before its marks are set: waits until nobody has a granted turn in `r`. False: kNoWait.
  bool let_pass(PageRange r, Wait wait);
  // The same for an invalidate that has no range lock: waits as well until `in_the_way()` is false, then calls `set()`,
  // both under the mutex, so that marks exclude each other. `asleep` counts it meanwhile.
  template <class InTheWay, class Set>
  bool take(PageRange r, Wait wait, InTheWay&& in_the_way, Set&& set, std::atomic<unsigned>& asleep) {
    MutexLock l(mutex_);
    while (turn_within(r) || in_the_way()) {
      if (wait == Wait::kNoWait) return false;
      ++asleep;
      changed_.Wait(mutex_);
      --asleep;
    }
    set();
    return true;
  }
  // After its marks were cleared: all who wait for a page of `r` get their turn.
  void grant(PageRange r);

 private:
  bool turn_within(PageRange r) const REQUIRES(mutex_);

  Mutex mutex_{LockRank::kLeaf, "mark queue"};
  CondVar changed_;  // a turn was used, a mark was cleared
  Turn* first_ GUARDED_BY(mutex_) = nullptr;
};

}  // namespace pmfs::exclusion
