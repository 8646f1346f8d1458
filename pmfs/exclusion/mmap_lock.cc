// Scheme `mmap-lock`: one plain mutex per inode around fault and invalidate.
//
// Source: fs/dax.c before 2015: i_mmap_lock held over the lookup and the insertion of the PTE, and over the unmap.
// Closes: interleavings 1-5, 7, 17, 20, among them two faults that allocate the same hole: one thread is in at a time.
// Leaves open: nothing that concerns P1, as here the mutex is kept through the freeing of the blocks (then it covered
// the unmap only: that is `unmap-only`). A fault that is out of space can't take back the zero blocks of its own file.
// Fault path: two atomic read-modify-writes on the inode's mutex, on top of the entry's two; faults of one file never
// run beside each other.
// Fairness: none. Who comes by when the mutex is free gets it; a loop on one side is slowed down by nothing but chance.
//
//   word        | lock             | try           | unlock
//   0 free      | -> 1             | -> 1          | error
//   1 held      | -> 2, sleeps     | false         | -> 0
//   2 waited for| sleeps           | false         | -> 0, wakes one
#include "pmfs/exclusion/all_schemes.h"

namespace pmfs::exclusion {
namespace {

// A futex mutex. std::mutex would do, but for its try_lock by the owner, which is undefined; here it is false.
class PlainMutex {
 public:
  explicit PlainMutex(uint64_t ino) : key_(ino) {}
  bool Lock(Wait wait) {
    lock_order::acquired(this, LockRank::kSchemeLock, key_, "mmap lock", wait == Wait::kBlock);
    uint32_t w = 0;
    if (word_.compare_exchange_strong(w, 1)) return true;
    if (wait == Wait::kNoWait) {
      lock_order::released(this);
      return false;
    }
    ++asleep_;
    while (word_.exchange(2) != 0) word_.wait(2);
    --asleep_;
    return true;
  }
  void Unlock() {
    if (word_.exchange(0) == 2) word_.notify_one();
    lock_order::released(this);
  }
  unsigned waiters() const { return asleep_; }

 private:
  const uint64_t key_;
  std::atomic<uint32_t> word_{0};
  std::atomic<unsigned> asleep_{0};
};

class MmapLockScheme final : public Scheme {
 public:
  MmapLockScheme(LockEntryTree& tree, uint64_t ino) : tree_(tree), mutex_(ino) {}
  std::string_view name() const override { return "mmap-lock"; }

  bool enter_fault(PageRange r, Wait wait, FaultTicket* t) override {
    t->range = r;
    return mutex_.Lock(wait);
  }
  void leave_fault(FaultTicket*) override { mutex_.Unlock(); }

  bool enter_invalidate(PageRange r, Wait wait, CancelToken* cancel, InvalidateTicket* t) override {
    t->range = r;
    if ((cancel && cancel->cancelled()) || !mutex_.Lock(wait)) return false;
    if (tree_.open_edges(r, wait)) return true;
    leave_invalidate(t);
    return false;
  }
  void leave_invalidate(InvalidateTicket* t) override {
    mutex_.Unlock();
    *t = {};
  }
  unsigned waiters() const override { return mutex_.waiters(); }

 private:
  LockEntryTree& tree_;
  PlainMutex mutex_;
};

}  // namespace

std::unique_ptr<Scheme> make_mmap_lock(LockEntryTree& tree, uint64_t ino) {
  return std::make_unique<MmapLockScheme>(tree, ino);
}

}  // namespace pmfs::exclusion
