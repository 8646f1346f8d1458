// Scheme `range-only`: one range lock for both sides.
//
// Source: Shutemov, August 2015, "dax: use range_lock instead of i_mmap_lock": faults lock the range they install,
// truncate and punch the range they take away, through the freeing of the blocks.
// Closes: interleavings 1-5, 17, 20. A fault holds its pages from before the lookup until after the install.
// Leaves open: two faults that allocate the same hole, when faults share the range (in 2015 they took it exclusively
// and so excluded each other, on one page too). Closed by the smallest addition: the LOCKED entry, common to all
// schemes. A 2 MiB entry that straddles the edge of a range is split first, or both sides of the edge would change it.
// Fault path: the mutex of the lock's queue twice (four atomic read-modify-writes) and a list node, on top of the
// entry's two; all faults of the inode meet on that cache line. Fault-around takes what it gets: if the whole window
// isn't free at once, only the page that faulted is waited for.
// Fairness: first come, first served for both sides.
#include "pmfs/exclusion/all_schemes.h"

namespace pmfs::exclusion {
namespace {

class RangeOnlyScheme final : public Scheme {
 public:
  RangeOnlyScheme(LockEntryTree& tree, uint64_t ino) : tree_(tree), ranges_(ino) {}
  std::string_view name() const override { return "range-only"; }

  bool enter_fault(PageRange r, Wait wait, FaultTicket* t) override {
    t->range = r;
    RangeLock::Ticket held = ranges_.TryLock(r, RangeMode::kShared);
    if (!held) {
      t->range.end = r.first + 1;
      held = lock_range(ranges_, t->range, RangeMode::kShared, wait, nullptr);
    }
    t->cookie = as_cookie(held);
    return held != nullptr;
  }
  void leave_fault(FaultTicket* t) override { unlock_cookie(ranges_, t); }

  bool enter_invalidate(PageRange r, Wait wait, CancelToken* cancel, InvalidateTicket* t) override {
    t->range = r;
    t->range_lock = lock_range(ranges_, r, wait, cancel);
    if (!t->range_lock) return false;
    if (tree_.open_edges(r, wait)) return true;
    leave_invalidate(t);
    return false;
  }
  void leave_invalidate(InvalidateTicket* t) override {
    ranges_.Unlock(t->range_lock);
    *t = {};
  }
  unsigned waiters() const override { return ranges_.waiters(); }

 private:
  LockEntryTree& tree_;
  RangeLock ranges_;
};

}  // namespace

std::unique_ptr<Scheme> make_range_only(LockEntryTree& tree, uint64_t ino) {
  return std::make_unique<RangeOnlyScheme>(tree, ino);
}

}  // namespace pmfs::exclusion
