// Scheme `entries`: lock entries only.
//
// Source: Wilcox, January 2020: "holepunch could insert lock entries into the pagecache to cover the range being
// punched, and readpage(s) would either skip lock entries or block on them", as holepunch is rare and faults are not.
// Closes: what `range` closes, by the same marks (interleavings 1-5, 17, 20): faults in flight are drained, new ones
// sleep at the mark.
// Leaves open: two invalidates of overlapping ranges, which entries alone don't order. Closed by the smallest addition:
// a mark is taken piece by piece from the left, each piece under the tree's mark mutex (what xa_lock is to i_pages), so
// that invalidates wait for each other in page order and never in a circle (mark_in_order).
// Fault path: as `range`, nothing beyond the entry's two compare-and-swaps.
// Fairness: faults get their turn before the next mark over their page. Between invalidates none: one over a wide
// range waits for a moment without any mark inside of the piece it is at, and small ones may overtake it there for
// ever. That is what the range lock in `range` is for.
#include "pmfs/exclusion/all_schemes.h"

namespace pmfs::exclusion {
namespace {

class EntriesScheme final : public Scheme {
 public:
  explicit EntriesScheme(LockEntryTree& tree) : tree_(tree) {}
  std::string_view name() const override { return "entries"; }

  bool enter_fault(PageRange r, Wait, FaultTicket* t) override {
    t->range = r;
    return true;
  }
  void leave_fault(FaultTicket*) override {}

  bool enter_invalidate(PageRange r, Wait wait, CancelToken* cancel, InvalidateTicket* t) override {
    t->range = r;
    if (cancel && cancel->cancelled()) return false;
    std::optional<Marks> marks = tree_.mark_in_order(r, wait);
    if (marks) t->marks = *marks;
    return marks.has_value();
  }
  void leave_invalidate(InvalidateTicket* t) override {
    tree_.unmark(t->marks);
    *t = {};
  }
  unsigned waiters() const override { return 0; }  // they are the tree's

 private:
  LockEntryTree& tree_;
};

}  // namespace

std::unique_ptr<Scheme> make_entries(LockEntryTree& tree, uint64_t) { return std::make_unique<EntriesScheme>(tree); }

}  // namespace pmfs::exclusion
