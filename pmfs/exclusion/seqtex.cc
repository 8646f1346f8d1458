// Scheme `seqtex`: a sequence number whose readers sleep while a writer is in.
//
// Source: Wilcox, November 2013: "seqtex_read_lock at the beginning of filemap_fault, release it after we have the page
// locked, since truncate will block on the page lock"; "read_unlock tells us whether to try again".
// Closes: interleavings 1-5, 17, 20. A fault that has its entries LOCKED and finds the sequence unmoved is waited for by
// every later invalidate; any other starts again. The check stands before anything is changed, so there is nothing to undo.
// Leaves open, each closed by an addition:
//   - "truncate will block on the page lock": it has to be made to. The invalidate first bumps the sequence, then waits
//     for every LOCKED entry of its range (drain). Dekker's argument, as for marks (docs/locking.md).
//   - two writers: "assuming the i_mutex is held above us". Here a fair lock over the inode that invalidates take.
//   - a loop of invalidates against one fault: the reader retries for ever. After two failures it enters through the
//     writers' queue and holds the sequence still (as Linux' read_seqbegin_or_lock).
// Fault path: no atomic read-modify-write of its own, two loads; every fault retries for every invalidate of the
// file, wherever in it.
// Fairness: by the third attempt first come, first served.
//
//   sequence | fault enters | fault_locked              | invalidate enters | leaves
//   even     | goes on      | as at enter: on; else no  | -> odd, drains    | -
//   odd      | sleeps       | no                        | waits in the queue| -> even, wakes all
#include "pmfs/base/pause.h"
#include "pmfs/exclusion/all_schemes.h"

namespace pmfs::exclusion {
namespace {

constexpr unsigned kPatience = 2;

class SeqtexScheme final : public Scheme {
 public:
  SeqtexScheme(LockEntryTree& tree, uint64_t ino) : tree_(tree), writers_(ino, LockRank::kSchemeLock) {}
  std::string_view name() const override { return "seqtex"; }

  bool enter_fault(PageRange r, Wait wait, FaultTicket* t) override {
    t->range = r;
    t->cookie = 0;
    if (t->retries >= kPatience) {
      t->cookie = as_cookie(lock_range(writers_, kWholeInode, RangeMode::kShared, wait, nullptr));
      if (!t->cookie) return false;
    }
    uint64_t now = sequence_;
    while (now & 1) {
      if (wait == Wait::kNoWait) return false;
      ++asleep_;
      sequence_.wait(now);
      --asleep_;
      now = sequence_;
    }
    t->seen = now;
    return true;
  }
  bool fault_locked(FaultTicket* t) override {
    PMFS_PAUSE_POINT("seqtex:before_check");
    return sequence_ == t->seen;
  }
  void leave_fault(FaultTicket* t) override { unlock_cookie(writers_, t); }

  bool enter_invalidate(PageRange r, Wait wait, CancelToken* cancel, InvalidateTicket* t) override {
    t->range = r;
    t->range_lock = lock_range(writers_, kWholeInode, wait, cancel);
    if (!t->range_lock) return false;
    sequence_.fetch_add(1);
    PMFS_PAUSE_POINT("seqtex:odd_before_drain");
    if (tree_.open_edges(r, wait) && tree_.drain(r, wait)) return true;
    leave_invalidate(t);
    return false;
  }
  void leave_invalidate(InvalidateTicket* t) override {
    sequence_.fetch_add(1);
    sequence_.notify_all();
    writers_.Unlock(t->range_lock);
    *t = {};
  }
  unsigned waiters() const override { return asleep_ + writers_.waiters(); }

 private:
  LockEntryTree& tree_;
  RangeLock writers_;
  std::atomic<uint64_t> sequence_{0};
  std::atomic<unsigned> asleep_{0};
};

}  // namespace

std::unique_ptr<Scheme> make_seqtex(LockEntryTree& tree, uint64_t ino) {
  return std::make_unique<SeqtexScheme>(tree, ino);
}

}  // namespace pmfs::exclusion
