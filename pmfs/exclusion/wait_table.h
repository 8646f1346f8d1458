// WaitTable: where threads sleep until a lock entry is unlocked. One table of hashed queues for all trees (what
// the kernel's wait_table is to dax_entry_waitqueue): an entry has room for one WAITERS bit, not for a queue.
//
//   slot word                  | wait_while_locked()                      | wake() by who unlocked
//   not an entry, not LOCKED   | returns at once                          | not called (no WAITERS)
//   LOCKED                     | sets WAITERS, sleeps                     | -
//   LOCKED, WAITERS            | sleeps                                   | after the word was replaced
//
// No wake-up is lost: a sleeper sets (or sees) WAITERS in the locked word while it holds the mutex of the queue,
// and gives the mutex up only by falling asleep. The unlocker replaces the word with one atomic operation. Either
// that came first, and the sleeper's compare-and-swap fails and it looks again; or it returns a word with WAITERS,
// and the unlocker goes for the mutex, which it gets when the sleeper is asleep and in the queue.
//
// A wake-up is for all sleepers of the key, and each looks again for itself. So it doesn't matter whether one of
// them finds nothing to do, is slow, or belongs to a client that has died: no other depends on it to pass
// anything on. The price is a herd, of as many threads as fault on one page at once.
//
// Thread-safe. Its mutexes are leaves.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "pmfs/base/mutex.h"
#include "pmfs/base/types.h"

namespace pmfs::exclusion {

class WaitTable {
 public:
  static WaitTable& instance();

  // Sleeps while the entry in `slot` is LOCKED; may return early. The key is (tree, head of the entry): a waiter
  // for a page inside a 2 MiB entry passes the entry's head. `asleep` counts it meanwhile.
  void wait_while_locked(std::atomic<uint64_t>& slot, const void* tree, Pgoff head, std::atomic<unsigned>& asleep);
  void wake(const void* tree, Pgoff head);

 private:
  struct Waiter {
    Waiter(const void* t, Pgoff h) : tree(t), head(h) {}
    const void* const tree;
    const Pgoff head;
    bool woken = false;
    CondVar cv;
    Waiter* next = nullptr;
  };
  struct alignas(64) Queue {
    Mutex mutex{LockRank::kLeaf, "entry wait queue"};
    Waiter* first GUARDED_BY(mutex) = nullptr;
  };

  Queue& queue(const void* tree, Pgoff head);
  std::array<Queue, 256> queues_;
};

}  // namespace pmfs::exclusion
