// Scheme `range`, the default: range lock + marks over the lock entries.
//
// Source: Shutemov's range_lock in DAX (2015) for the invalidates, the lock entries of fs/dax.c (2016) for the
// faults, and Wilcox's "let hole punch insert lock entries" (2020) to join the two.
// Closes: the size race, the punch race inside EOF, the gap between unmap and free, install-ahead into a range that
// is going, collapse and insert (interleavings 1-5, 17, 20). A fault is either drained before the extents leave, or
// starts after the invalidate is over and looks everything up afresh.
// Leaves open: nothing known.
// Fault path: no lock and no atomic operation of its own; the entry's two compare-and-swaps are all. Faults outside
// the range never notice an invalidate.
// Fairness: the range lock is first come, first served; a fault shut out by a mark gets its turn before the next
// mark over its page; an invalidate waits only for the faults in flight when its marks were set.
#include "pmfs/exclusion/all_schemes.h"

namespace pmfs::exclusion {
namespace {

class RangeScheme final : public Scheme {
 public:
  RangeScheme(LockEntryTree& tree, uint64_t ino) : tree_(tree), ranges_(ino) {}
  std::string_view name() const override { return "range"; }

  bool enter_fault(PageRange r, Wait, FaultTicket* t) override {
    t->range = r;
    return true;
  }
  void leave_fault(FaultTicket*) override {}

  bool enter_invalidate(PageRange r, Wait wait, CancelToken* cancel, InvalidateTicket* t) override {
    t->range = r;
    t->range_lock = lock_range(ranges_, r, wait, cancel);
    if (!t->range_lock) return false;
    if (std::optional<Marks> marks = tree_.mark(r, wait)) {
      t->marks = *marks;
      return true;
    }
    ranges_.Unlock(t->range_lock);
    t->range_lock = nullptr;
    return false;
  }
  void leave_invalidate(InvalidateTicket* t) override {
    tree_.unmark(t->marks);
    ranges_.Unlock(t->range_lock);
    *t = {};
  }
  unsigned waiters() const override { return ranges_.waiters(); }

 private:
  LockEntryTree& tree_;
  RangeLock ranges_;
};

}  // namespace

std::unique_ptr<Scheme> make_range(LockEntryTree& tree, uint64_t ino) {
  return std::make_unique<RangeScheme>(tree, ino);
}

}  // namespace pmfs::exclusion
