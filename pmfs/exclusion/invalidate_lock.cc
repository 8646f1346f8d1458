// Scheme `invalidate`: one fair reader-writer lock per inode.
//
// Source: Kara, 2021 (merged in Linux 5.15): invalidate_lock, shared in fault, read and readahead, exclusive in
// truncate and punch "through the freeing of blocks".
// Closes: interleavings 1-5, 17, 20: no fault is anywhere while blocks leave.
// Leaves open: two faults that allocate the same hole; in Linux the page lock closes that, here the LOCKED entry.
// Fault path: two atomic read-modify-writes on a word of the inode, on top of the entry's two. All faults of the
// inode meet on that cache line, and every invalidate stops them all, wherever in the file it is.
// Fairness: first come, first served for both sides, as Linux' rw_semaphore.
#include "pmfs/exclusion/all_schemes.h"
#include "pmfs/exclusion/two_state_lock.h"

namespace pmfs::exclusion {
namespace {

class InvalidateScheme final : public Scheme {
 public:
  InvalidateScheme(LockEntryTree& tree, uint64_t ino) : tree_(tree), lock_(ino, "invalidate lock") {}
  std::string_view name() const override { return "invalidate"; }

  bool enter_fault(PageRange r, Wait wait, FaultTicket* t) override {
    t->range = r;
    return wait == Wait::kNoWait ? lock_.TryLock(LockSide::kAdd, kWholeInode)
                                 : lock_.Lock(LockSide::kAdd, kWholeInode);
  }
  void leave_fault(FaultTicket*) override { lock_.Unlock(LockSide::kAdd, kWholeInode); }

  bool enter_invalidate(PageRange r, Wait wait, CancelToken* cancel, InvalidateTicket* t) override {
    t->range = r;
    if (cancel && cancel->cancelled()) return false;
    const bool in = wait == Wait::kNoWait ? lock_.TryLock(LockSide::kBlock, kWholeInode)
                                          : lock_.Lock(LockSide::kBlock, kWholeInode);
    if (!in) return false;
    if (tree_.open_edges(r, wait)) return true;
    leave_invalidate(t);
    return false;
  }
  void leave_invalidate(InvalidateTicket* t) override {
    lock_.Unlock(LockSide::kBlock, kWholeInode);
    *t = {};
  }
  unsigned waiters() const override { return lock_.waiters(); }

 private:
  LockEntryTree& tree_;
  TwoStateLock lock_;
};

}  // namespace

std::unique_ptr<Scheme> make_invalidate(LockEntryTree& tree, uint64_t ino) {
  return std::make_unique<InvalidateScheme>(tree, ino);
}

}  // namespace pmfs::exclusion
