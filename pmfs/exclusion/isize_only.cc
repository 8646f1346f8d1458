// Scheme `isize-only`: broken on purpose, and more instructive than `none`, because it was proposed in earnest.
//
// Source: the 2015 thread "use range_lock instead of i_mmap_lock": "please consider this scenario" - the fault
// looks up and checks the size under the inode's read lock, drops it, and then sets up the PTE; the truncate does
// its work under the write lock. "Do you realize that you describe a race?"
// Closes: a lookup in the middle of an invalidate, and a fault that starts after a truncate (the size check).
// Leaves open: the gap between the lookup and the install. A whole truncate or punch fits into it, and the fault
// then installs a block that is not the file's any more. For a punch not even a second size check would help.
// Fault path: two acquisitions of the inode's queue mutex and two of its releases, on top of the entry's two
// compare-and-swaps; all faults of the inode meet on that cache line.
// Fairness: first come, first served for both sides.
#include "pmfs/exclusion/all_schemes.h"

namespace pmfs::exclusion {
namespace {

class IsizeOnlyScheme final : public Scheme {
 public:
  explicit IsizeOnlyScheme(uint64_t ino) : inode_(ino, LockRank::kSchemeLock) {}
  std::string_view name() const override { return "isize-only"; }

  bool enter_fault(PageRange r, Wait wait, FaultTicket* t) override {
    t->range = r;
    RangeLock::Ticket shared = lock_range(inode_, kWholeInode, RangeMode::kShared, wait, nullptr);
    t->cookie = as_cookie(shared);
    return shared != nullptr;
  }
  // The mistake: what was looked up is trusted after the lock that protected it is gone.
  bool fault_resolved(FaultTicket* t) override {
    unlock_cookie(inode_, t);
    return true;
  }
  void leave_fault(FaultTicket* t) override { unlock_cookie(inode_, t); }  // a fault that was not resolved

  bool enter_invalidate(PageRange r, Wait wait, CancelToken* cancel, InvalidateTicket* t) override {
    t->range = r;
    t->range_lock = lock_range(inode_, kWholeInode, wait, cancel);
    return t->range_lock != nullptr;
  }
  void leave_invalidate(InvalidateTicket* t) override {
    inode_.Unlock(t->range_lock);
    *t = {};
  }
  LockEntryTree::Erase erase_mode() const override { return LockEntryTree::Erase::kSteal; }
  unsigned waiters() const override { return inode_.waiters(); }

 private:
  RangeLock inode_;
};

}  // namespace

std::unique_ptr<Scheme> make_isize_only(LockEntryTree&, uint64_t ino) {
  return std::make_unique<IsizeOnlyScheme>(ino);
}

}  // namespace pmfs::exclusion
