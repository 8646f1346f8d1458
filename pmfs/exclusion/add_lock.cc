// Scheme `add-lock`: a lock of two sides, both shared, per inode.
//
// Source: Overstreet, December 2019 (bcachefs): the page cache add lock. Faults "add", truncates, punches and direct
// writes "block adding"; any number of either, never both. For a direct write whose buffer is mapped from another
// file: "what wound/wait mutexes were invented for", with "some state describing what locks are held".
// Closes: interleavings 1-5, 17, 20; 15 with wound/wait tickets, kept over the retries (two_state_lock.h), in whatever
// order user space brings the two files.
// Leaves open, each closed by an addition:
//   - two faults that allocate the same hole: the LOCKED entry, common to all schemes.
//   - two invalidates of overlapping ranges, which share the side (in bcachefs i_rwsem is above): they share it only
//     if their ranges don't overlap.
//   - a storm of faults keeps the other side out for ever: a queue, first come, first served.
//   - the file that the write itself holds (16): EDEADLK, the caller copies through a buffer.
// Fault path: two atomic read-modify-writes on a word of the inode, on top of the entry's two; every invalidate stops
// all faults of the file, but not the other invalidates.
// Fairness: first come, first served; between operations on two files the older wins.
#include "pmfs/exclusion/all_schemes.h"
#include "pmfs/exclusion/two_state_lock.h"

namespace pmfs::exclusion {
namespace {

class AddLockScheme final : public Scheme {
 public:
  AddLockScheme(LockEntryTree& tree, uint64_t ino) : tree_(tree), lock_(ino, "add lock") {}
  std::string_view name() const override { return "add-lock"; }
  bool wounds() const override { return true; }

  bool enter_fault(PageRange r, Wait wait, FaultTicket* t) override {
    t->range = r;
    return wait == Wait::kNoWait ? lock_.TryLock(LockSide::kAdd, kWholeInode, t->wound)
                                 : lock_.Lock(LockSide::kAdd, kWholeInode, t->wound);
  }
  void leave_fault(FaultTicket* t) override { lock_.Unlock(LockSide::kAdd, kWholeInode, t->wound); }

  bool enter_invalidate(PageRange r, Wait wait, CancelToken* cancel, InvalidateTicket* t) override {
    t->range = r;
    if (cancel && cancel->cancelled()) return false;
    const bool in = wait == Wait::kNoWait ? lock_.TryLock(LockSide::kBlock, r, t->wound)
                                          : lock_.Lock(LockSide::kBlock, r, t->wound);
    if (!in) return false;
    if (tree_.open_edges(r, wait)) return true;
    leave_invalidate(t);
    return false;
  }
  void leave_invalidate(InvalidateTicket* t) override {
    lock_.Unlock(LockSide::kBlock, t->range, t->wound);
    *t = {};
  }
  unsigned waiters() const override { return lock_.waiters(); }

 private:
  LockEntryTree& tree_;
  TwoStateLock lock_;
};

}  // namespace

std::unique_ptr<Scheme> make_add_lock(LockEntryTree& tree, uint64_t ino) {
  return std::make_unique<AddLockScheme>(tree, ino);
}

}  // namespace pmfs::exclusion
