#include "pmfs/fs/inode.h"

#include <algorithm>

namespace pmfs {

void Inode::set_size(uint64_t bytes) {
  i_size.store(bytes, std::memory_order_release);
  MutexLock l(listeners_mutex_);
  for (SizeListener* s : listeners_) s->size_changed(bytes);
}

void Inode::add_listener(SizeListener* l) {
  MutexLock lock(listeners_mutex_);
  listeners_.push_back(l);
  // Inside the lock: a size change is either told by set_size after this, or seen here.
  l->size_changed(i_size.load(std::memory_order_acquire));
}

void Inode::remove_listener(SizeListener* l) {
  MutexLock lock(listeners_mutex_);
  listeners_.erase(std::remove(listeners_.begin(), listeners_.end(), l), listeners_.end());
}

}  // namespace pmfs
