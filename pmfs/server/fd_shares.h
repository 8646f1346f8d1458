// FdShares: how many of the manager's descriptors each process and each user may cause it to have, so that nobody leaves none for
// others: a quarter of the limit for a process, half of it for a user.
//
// Lock: a leaf. A share outlives neither its FdShares nor the server.
#pragma once

#include <map>
#include <memory>

#include <sys/socket.h>
#include <sys/types.h>

#include "pmfs/base/mutex.h"

namespace pmfs::server {

class FdShares {
 public:
  explicit FdShares(size_t limit) : limit_(limit) {}  // RLIMIT_NOFILE
  // n of them are `peer`'s until the last copy of what is returned goes. Throws Error(EMFILE).
  std::shared_ptr<const void> take(const ucred& peer, size_t n);

 private:
  void give(const ucred& peer, size_t n);
  const size_t limit_;
  Mutex mutex_{LockRank::kLeaf, "descriptor shares"};
  std::map<pid_t, size_t> of_process_ GUARDED_BY(mutex_);
  std::map<uid_t, size_t> of_user_ GUARDED_BY(mutex_);
};

}  // namespace pmfs::server
