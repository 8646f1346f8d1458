#include "pmfs/fs/inode_table.h"

#include "pmfs/base/pause.h"

namespace pmfs {

std::shared_ptr<Inode> InodeTable::get(Ino ino) {
  uint64_t key = to_u64(ino);
  {
    MutexLock l(mutex_);
    Slot* s;
    while ((s = &slots_[key])->busy) changed_.Wait(mutex_);
    if (s->inode) {
      ++s->refs;
      return s->inode;
    }
    s->busy = true;
  }
  PMFS_PAUSE_POINT("inode:making");
  std::shared_ptr<Inode> made;
  try {
    made = make_(ino);
  } catch (...) {
    MutexLock l(mutex_);
    slots_.erase(key);
    changed_.SignalAll();
    throw;
  }
  MutexLock l(mutex_);
  slots_[key] = Slot{made, 1, false};
  changed_.SignalAll();
  return made;
}

void InodeTable::ref(Inode& inode) {
  MutexLock l(mutex_);
  ++slots_.at(to_u64(inode.ino)).refs;
}

void InodeTable::put(Inode& inode) {
  uint64_t key = to_u64(inode.ino);
  std::shared_ptr<Inode> last;
  {
    MutexLock l(mutex_);
    Slot& s = slots_.at(key);
    if (--s.refs != 0) return;
    s.busy = true;
    last = s.inode;
  }
  evict_(*last);
  MutexLock l(mutex_);
  slots_.erase(key);
  changed_.SignalAll();
}

bool InodeTable::unused(Ino ino) {
  MutexLock l(mutex_);
  return !slots_.contains(to_u64(ino));
}

std::shared_ptr<Inode> InodeTable::peek(Ino ino) {
  MutexLock l(mutex_);
  auto it = slots_.find(to_u64(ino));
  return it == slots_.end() || it->second.busy ? nullptr : it->second.inode;
}

std::vector<std::shared_ptr<Inode>> InodeTable::all() {
  MutexLock l(mutex_);
  std::vector<std::shared_ptr<Inode>> v;
  for (auto& [ino, s] : slots_)
    if (s.inode && !s.busy) v.push_back(s.inode);
  return v;
}

}  // namespace pmfs
