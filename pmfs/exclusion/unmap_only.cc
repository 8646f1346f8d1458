// Scheme `unmap-only`: broken on purpose. The exclusion covers the unmap, but not the free.
//
// Source: 2013, on the generation counter: "fault can come and happily instantiate the page again; after that hole
// punching awakes and removes blocks from under that page"; 2015: "fault in pfn which unmap already unmapped". It is
// what i_mmap_lock did for DAX.
// Closes: a fault in flight when the invalidate begins, and one that begins before the unmap is over (interleavings 1,
// 2, 4); two invalidates against each other.
// Leaves open: the gap between unmap and free (3). A fault in it finds what is being freed and maps it again.
// Fault path: as `range`, nothing beyond the entry's two compare-and-swaps.
// Fairness: as `range`.
#include "pmfs/exclusion/all_schemes.h"

namespace pmfs::exclusion {
namespace {

class UnmapOnlyScheme final : public Scheme {
 public:
  UnmapOnlyScheme(LockEntryTree& tree, uint64_t ino) : tree_(tree), range_(make_range(tree, ino)) {}
  std::string_view name() const override { return "unmap-only"; }

  bool enter_fault(PageRange r, Wait wait, FaultTicket* t) override { return range_->enter_fault(r, wait, t); }
  void leave_fault(FaultTicket* t) override { range_->leave_fault(t); }

  bool enter_invalidate(PageRange r, Wait wait, CancelToken* cancel, InvalidateTicket* t) override {
    return range_->enter_invalidate(r, wait, cancel, t);
  }
  // The mistake: the blocks are still what a lookup finds.
  void unmapped(InvalidateTicket* t) override {
    tree_.unmark(t->marks);
    t->marks = {};
  }
  void leave_invalidate(InvalidateTicket* t) override { range_->leave_invalidate(t); }
  LockEntryTree::Erase erase_mode() const override { return LockEntryTree::Erase::kSteal; }
  unsigned waiters() const override { return range_->waiters(); }

 private:
  LockEntryTree& tree_;
  const std::unique_ptr<Scheme> range_;
};

}  // namespace

std::unique_ptr<Scheme> make_unmap_only(LockEntryTree& tree, uint64_t ino) {
  return std::make_unique<UnmapOnlyScheme>(tree, ino);
}

}  // namespace pmfs::exclusion
