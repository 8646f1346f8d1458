#include "pmfs/fs/inode.h"

#include <algorithm>

namespace pmfs {

void Inode::set_size(uint64_t bytes) {
  i_size.store(bytes, std::memory_order_release);
  MutexLock l(listeners_mutex_);
  for (SizeListener* s : listeners_) s->size_changed(bytes);
}

void Inode::drop_zeros(PageRange r) {
  if (!zeros_shown.load()) return;
  MutexLock l(listeners_mutex_);
  for (SizeListener* s : listeners_) s->drop_zeros(r);
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

void Inode::add_pte_holder(std::weak_ptr<PteHolder> h) {
  MutexLock lock(listeners_mutex_);
  std::erase_if(pte_holders_, [](const auto& w) { return w.expired(); });
  pte_holders_.push_back(std::move(h));
}

std::vector<std::shared_ptr<PteHolder>> Inode::pte_holders() {
  MutexLock lock(listeners_mutex_);
  std::vector<std::shared_ptr<PteHolder>> out;
  for (const auto& w : pte_holders_)
    if (auto h = w.lock()) out.push_back(std::move(h));
  return out;
}

}  // namespace pmfs
