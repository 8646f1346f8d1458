// LeasedNodes: whose attributes the kernel may believe. Kept for kKeepNs at least, so that an answer still on its way to the
// thread that asked, on a machine with too much to do, is refused by the kernel when the attributes have been taken back.
//
// mutex_ (LockRank::kLeaf): nothing is called with it held.
#pragma once

#include <unordered_set>
#include <vector>

#include "pmfs/base/mutex.h"
#include "pmfs/base/sys.h"
#include "pmfs/base/types.h"

namespace pmfs::fuse {

class LeasedNodes {
 public:
  static constexpr int64_t kKeepNs = 1'000'000'000;

  void add(Ino ino) {
    const int64_t now = sys().monotonic_ns();
    MutexLock l(mutex_);
    if (now - since_ns_ >= kKeepNs) {
      older_.swap(newer_);
      if (now - since_ns_ >= 2 * kKeepNs) older_.clear();
      newer_.clear();
      since_ns_ = now;
    }
    newer_.insert(to_u64(ino));
  }
  std::vector<Ino> all() {
    MutexLock l(mutex_);
    std::vector<Ino> v;
    for (const auto* set : {&older_, &newer_})
      for (const uint64_t ino : *set) v.push_back(Ino{ino});
    return v;
  }

 private:
  Mutex mutex_{LockRank::kLeaf, "leased nodes"};
  int64_t since_ns_ GUARDED_BY(mutex_) = 0;  // of newer_; older_ is of the time before it
  std::unordered_set<uint64_t> newer_ GUARDED_BY(mutex_), older_ GUARDED_BY(mutex_);
};

}  // namespace pmfs::fuse
