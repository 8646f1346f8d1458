#include "pmfs/exclusion/wait_table.h"

#include "pmfs/base/pause.h"
#include "pmfs/exclusion/entry_tree.h"

namespace pmfs::exclusion {

WaitTable& WaitTable::instance() {
  static WaitTable* table = new WaitTable;  // never destroyed: a thread may still sleep in it at exit
  return *table;
}

WaitTable::Queue& WaitTable::queue(const void* tree, Pgoff head) {
  uint64_t h = (reinterpret_cast<uintptr_t>(tree) ^ head.v * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;
  return queues_[h >> 56];
}

void WaitTable::wait_while_locked(std::atomic<uint64_t>& slot, const void* tree, Pgoff head,
                                  std::atomic<unsigned>& asleep) {
  PMFS_PAUSE_POINT("entry:before_sleep");
  Queue& q = queue(tree, head);
  {
    MutexLock l(q.mutex);
    for (uint64_t w = slot.load();;) {
      if (!(w & Entry::kValue) || !(w & Entry::kLocked)) return;
      if ((w & Entry::kWaiters) || slot.compare_exchange_weak(w, w | Entry::kWaiters)) break;
    }
    Waiter self(tree, head);
    self.next = q.first;
    q.first = &self;
    ++asleep;
    while (!self.woken) self.cv.Wait(q.mutex);
    --asleep;
  }
  PMFS_PAUSE_POINT("entry:woken");
}

void WaitTable::wake(const void* tree, Pgoff head) {
  Queue& q = queue(tree, head);
  MutexLock l(q.mutex);
  for (Waiter** at = &q.first; *at;) {
    Waiter* w = *at;
    if (w->tree != tree || w->head != head) {
      at = &w->next;
      continue;
    }
    *at = w->next;  // the waker unlinks, so that a second wake-up walks past it
    w->woken = true;
    w->cv.Signal();
  }
}

}  // namespace pmfs::exclusion
