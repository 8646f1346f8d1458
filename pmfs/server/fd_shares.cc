#include "pmfs/server/fd_shares.h"

#include "pmfs/base/error.h"

namespace pmfs::server {

namespace {

template <class Map, class Key>
void less(Map& map, Key key, size_t n) {
  const auto it = map.find(key);
  if ((it->second -= n) == 0) map.erase(it);
}

}  // namespace

std::shared_ptr<const void> FdShares::take(const ucred& peer, size_t n) {
  {
    MutexLock l(mutex_);
    size_t& process = of_process_[peer.pid];
    size_t& user = of_user_[peer.uid];
    const size_t in_process = process, in_user = user;
    const bool fits = in_process + n <= limit_ / 4 && in_user + n <= limit_ / 2;
    if (fits) {
      process += n;
      user += n;
    } else {
      if (in_process == 0) of_process_.erase(peer.pid);
      if (in_user == 0) of_user_.erase(peer.uid);
      fail(EMFILE, "process {} of user {}: {} and {} of the manager's {} descriptors are for their connections and mapped files; a quarter "
           "and half may be: raise its limit (ulimit -n)", peer.pid, peer.uid, in_process, in_user, limit_);
    }
  }
  return {static_cast<const void*>(this), [this, peer, n](const void*) { give(peer, n); }};
}

void FdShares::give(const ucred& peer, size_t n) {
  MutexLock l(mutex_);
  less(of_process_, peer.pid, n);
  less(of_user_, peer.uid, n);
}

}  // namespace pmfs::server
