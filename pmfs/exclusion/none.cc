// Scheme `none`: broken on purpose. What a torture tool or a test must catch, or it proves nothing.
//
// Source: the negative control; DAX as it would be if truncate just unmapped and freed.
// Closes: two invalidates of one range against each other (the range lock), and two faults on one page (the entry).
// Leaves open: every race of a fault with an invalidate. The fault doesn't look at the size, isn't drained and isn't
// shut out; an entry it holds LOCKED is stolen from under it.
// Fault path: no atomic operation beyond the entry's two.
// Fairness: faults never wait for invalidates; invalidates are first come, first served.
#include "pmfs/exclusion/all_schemes.h"

namespace pmfs::exclusion {
namespace {

class NoneScheme final : public Scheme {
 public:
  explicit NoneScheme(uint64_t ino) : ranges_(ino) {}
  std::string_view name() const override { return "none"; }

  bool enter_fault(PageRange r, Wait, FaultTicket* t) override {
    t->range = r;
    return true;
  }
  void leave_fault(FaultTicket*) override {}
  bool fault_checks_size() const override { return false; }

  bool enter_invalidate(PageRange r, Wait wait, CancelToken* cancel, InvalidateTicket* t) override {
    t->range = r;
    t->range_lock = lock_range(ranges_, r, wait, cancel);
    return t->range_lock != nullptr;
  }
  void leave_invalidate(InvalidateTicket* t) override {
    ranges_.Unlock(t->range_lock);
    *t = {};
  }
  LockEntryTree::Erase erase_mode() const override { return LockEntryTree::Erase::kSteal; }
  unsigned waiters() const override { return ranges_.waiters(); }

 private:
  RangeLock ranges_;
};

}  // namespace

std::unique_ptr<Scheme> make_none(LockEntryTree&, uint64_t ino) { return std::make_unique<NoneScheme>(ino); }

}  // namespace pmfs::exclusion
