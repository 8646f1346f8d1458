// Scheme `generation`: faults are optimistic, and check a count of deallocations.
//
// Source: Kara, November 2013: "a generation counter in the inode that is incremented on every deallocation; the fault
// path would read the generation counter before and then check it hasn't changed after getting the page lock".
// Closes: interleavings 1, 2: a deallocation that began between lookup and page lock is noticed and undone.
// Leaves open, each closed by an addition:
//   - the unmap-free gap (3): a fault that *begins* in the middle of a deallocation sees the count already bumped ("I'm
//     not sure I understand how this should work", the answer in the thread). Next to the count stands how many
//     deallocations are under way; while there are any, the optimistic path is shut.
//   - the time between check and install: the deallocation waits, after the bump, for the LOCKED entries in its range.
//     (The thread's other answer, checking under i_mutex, inverted the lock order.)
//   - who comes when the optimistic path is shut takes the deallocations' own range lock, shared, over its page: it
//     waits for those over this page only, and makes progress against a loop of them.
// Fault path: no atomic read-modify-write of its own, two loads on a word that only deallocations write; beside a
// deallocation anywhere in the file as `range-only`, after one wasted lookup.
// Fairness: the optimistic path is never waited for; the other is first come, first served.
//
//   word: bits 0-15 deallocations under way, 16-63 generation
//   word          | fault_locked            | deallocation enters | leaves
//   as at enter,  | go on                   | +1 under way, +1    | -1 under way
//     0 under way |                         | generation, drains  |
//   anything else | no; next time by range  |                     |
#include "pmfs/base/pause.h"
#include "pmfs/exclusion/all_schemes.h"

namespace pmfs::exclusion {
namespace {

constexpr uint64_t kUnderWay = 1, kGeneration = uint64_t{1} << 16;

class GenerationScheme final : public Scheme {
 public:
  GenerationScheme(LockEntryTree& tree, uint64_t ino) : tree_(tree), ranges_(ino) {}
  std::string_view name() const override { return "generation"; }

  bool enter_fault(PageRange r, Wait wait, FaultTicket* t) override {
    t->range = r;
    t->cookie = 0;
    t->seen = word_;
    if (t->retries == 0 && !under_way(t->seen)) return true;
    RangeLock::Ticket held = ranges_.TryLock(r, RangeMode::kShared);
    if (!held) {
      t->range.end = r.first + 1;
      held = lock_range(ranges_, t->range, RangeMode::kShared, wait, nullptr);
    }
    t->cookie = as_cookie(held);
    return held != nullptr;
  }
  bool fault_locked(FaultTicket* t) override {
    PMFS_PAUSE_POINT("generation:before_check");
    return t->cookie != 0 || word_ == t->seen;
  }
  void leave_fault(FaultTicket* t) override { unlock_cookie(ranges_, t); }

  bool enter_invalidate(PageRange r, Wait wait, CancelToken* cancel, InvalidateTicket* t) override {
    t->range = r;
    t->range_lock = lock_range(ranges_, r, wait, cancel);
    if (!t->range_lock) return false;
    word_.fetch_add(kGeneration + kUnderWay);
    PMFS_PAUSE_POINT("generation:bumped_before_drain");
    if (tree_.open_edges(r, wait) && tree_.drain(r, wait)) return true;
    leave_invalidate(t);
    return false;
  }
  void leave_invalidate(InvalidateTicket* t) override {
    word_.fetch_sub(kUnderWay);
    ranges_.Unlock(t->range_lock);
    *t = {};
  }
  unsigned waiters() const override { return ranges_.waiters(); }

 private:
  static bool under_way(uint64_t word) { return word & (kGeneration - 1); }

  LockEntryTree& tree_;
  RangeLock ranges_;
  std::atomic<uint64_t> word_{0};
};

}  // namespace

std::unique_ptr<Scheme> make_generation(LockEntryTree& tree, uint64_t ino) {
  return std::make_unique<GenerationScheme>(tree, ino);
}

}  // namespace pmfs::exclusion
