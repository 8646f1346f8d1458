// Quarantine: what waits for clients that map blocks directly (acked mode): blocks that left their file and are not free yet, and
// callers whose operation has not taken effect everywhere yet.
//
// The kernel can't be asked to take a client's PTEs away there; the client must do it. So an invalidate begins a Hold and
// gives a reference to each command that it posts. Whoever answers, or is dead for sure, drops its own; when the last one
// goes nobody has a PTE on those blocks. Nothing is locked meanwhile and no thread waits, but for wait().
//
//   live      some client has not answered                -> answered: the last reference went
//   answered  `answered` was called; who waited for this Hold, and has nothing else to wait for, is told
//
// mutex_ is a leaf. Neither function is called with it held; `answered` may be called with any lock held that the thread
// which drops the last reference holds, so it takes none but leaves.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "pmfs/base/mutex.h"
#include "pmfs/base/types.h"

namespace pmfs {

// Thrown by an operation that can't begin before clients have let go of what they map, which they have been asked to:
// once more when that is idle. Nothing has been changed.
struct MustWait {
  Ino ino;
};

class Quarantine {
 public:
  class Hold {
   public:
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    friend class Quarantine;
    Hold(Quarantine& q, Ino file, uint64_t number, std::function<void()> f)
        : quarantine(q), ino(file), id(number), answered(std::move(f)) {}
    Quarantine& quarantine;
    const Ino ino;
    const uint64_t id;
    const std::function<void()> answered;
  };
  Quarantine() = default;
  ~Quarantine() = default;  // no Hold is left
  Quarantine(const Quarantine&) = delete;
  Quarantine& operator=(const Quarantine&) = delete;

  std::shared_ptr<Hold> begin(Ino ino, std::function<void()> answered);
  // Calls `then` when every Hold on `ino` that is live now is answered, from whatever thread. False: there is none, and
  // `then` is not called.
  bool when_idle(Ino ino, std::function<void()> then);
  void wait(Ino ino);  // the same, waiting. No lock held.
  size_t live() const { return live_.load(); }
  // From now on a Hold that ends has not been answered: its blocks stay what they are on the deferred-free list.
  void abandon() { abandoned_.store(true); }

 private:
  struct Waiter {
    uint64_t up_to;
    std::function<void()> then;
  };
  struct File {
    std::set<uint64_t> live;
    std::vector<Waiter> waiters;
  };
  void ended(const Hold& h);
  mutable Mutex mutex_{LockRank::kLeaf, "quarantine"};
  CondVar changed_;
  std::unordered_map<uint64_t, File> files_ GUARDED_BY(mutex_);
  uint64_t last_ GUARDED_BY(mutex_) = 0;
  std::atomic<size_t> live_{0};
  std::atomic<bool> abandoned_{false};
};

}  // namespace pmfs
