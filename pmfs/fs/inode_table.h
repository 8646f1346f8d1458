// InodeTable: ino -> the one Inode object in memory, counted by open handles and mappings. The last put() of
// a file evicts it: its volatile zero blocks and reservations go back, and if it is unlinked, its blocks too.
//
// Eviction runs with no table lock held; whoever opens the same ino meanwhile waits for it to end.
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "pmfs/base/mutex.h"
#include "pmfs/fs/inode.h"

namespace pmfs {

class InodeTable {
 public:
  using Make = std::function<std::shared_ptr<Inode>(Ino)>;
  using Evict = std::function<void(Inode&)>;
  InodeTable(Make make, Evict evict) : make_(std::move(make)), evict_(std::move(evict)) {}

  // Takes a reference; put() gives it back. Throws what `make` throws.
  std::shared_ptr<Inode> get(Ino ino);
  void ref(Inode& inode);  // one more reference; the caller has one
  void put(Inode& inode);
  // Nobody has it, nor is it being made or evicted. Asked with the meta mutex held alone, it stays true as far as who holds
  // that can tell: whoever comes looks at the inode in the store (`make`) after he has a slot here.
  bool unused(Ino ino);
  // The object if it is in use, without a reference.
  std::shared_ptr<Inode> peek(Ino ino);
  std::vector<std::shared_ptr<Inode>> all();

 private:
  struct Slot {
    std::shared_ptr<Inode> inode;
    uint64_t refs = 0;
    bool busy = false;  // being made or evicted
  };
  const Make make_;
  const Evict evict_;
  Mutex mutex_{LockRank::kInodeCache, "inode table"};
  CondVar changed_;
  std::unordered_map<uint64_t, Slot> slots_ GUARDED_BY(mutex_);
};

}  // namespace pmfs
