// Inode: what the manager keeps in memory of a file that is open or mapped.
//
// Locks of an inode, in order (docs/locking.md): size_mutex, then its exclusion scheme (range lock, lock
// entries), then alloc_mutex. listeners_mutex is a leaf.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "pmfs/base/mutex.h"
#include "pmfs/base/stats.h"
#include "pmfs/base/types.h"
#include "pmfs/exclusion/scheme.h"
#include "pmfs/fs/placement.h"

namespace pmfs {

// Told of every change of a file's size, before the operation that changed it returns. Must not block on a
// client nor take a lock of rank below kLeaf.
class SizeListener {
 public:
  virtual ~SizeListener() = default;
  virtual void size_changed(uint64_t bytes) = 0;
  // Acked mode: pages of `r` may have been shown to clients as zeros; no more from when it returns on.
  virtual void drop_zeros(PageRange r) = 0;
};

// Somebody who may have PTEs on the pages of a file: a client's mapping of it.
class PteHolder {
 public:
  virtual ~PteHolder() = default;
  // Returns when no store can reach the pages of `r` any more before a fault was resolved; they stay readable. The
  // caller excludes faults on `r`. False: not now, the address space is changing. Never waits for the client.
  virtual bool write_protect(PageRange r) = 0;
  // Acked mode: asks the client to let go of the blocks that it has mapped on `r`, or may have. `keep` is kept until it has
  // answered, or is dead for sure. False: it has none there. Never waits for the client. The caller excludes faults on `r`.
  virtual bool revoke(PageRange r, const std::shared_ptr<const void>& keep) = 0;
  virtual bool gone() const = 0;  // for good: the mapping has ended
};

class Inode {
 public:
  Inode(Ino number, uint64_t size, const exclusion::SchemeInfo& scheme, meta::Store& store)
      : ino(number),
        i_size(size),
        size_mutex(LockRank::kInodeOp, "inode size", to_u64(number)),
        entries(to_u64(number)),
        exclusion(scheme.make(entries, to_u64(number))),
        alloc_mutex(LockRank::kInodeAlloc, "inode alloc", to_u64(number)),
        placement(store) {}
  Inode(const Inode&) = delete;
  Inode& operator=(const Inode&) = delete;

  uint64_t size_pages() const { return blocks_for(i_size.load(std::memory_order_acquire)); }
  void set_size(uint64_t bytes);  // i_size, then the listeners
  void add_listener(SizeListener* l);
  void remove_listener(SizeListener* l);
  void drop_zeros(PageRange r);  // SizeListener::drop_zeros, if zeros_shown
  void add_pte_holder(std::weak_ptr<PteHolder> h);  // before it installs anything; forgotten when it is gone
  std::vector<std::shared_ptr<PteHolder>> pte_holders();

  const Ino ino;
  // Bytes. Raised under size_mutex; lowered under size_mutex and an invalidate over what is cut off. The fault
  // path reads it with its entry locked.
  std::atomic<uint64_t> i_size;
  // Serialises what changes the size: truncate, extending write, append, preallocate.
  Mutex size_mutex;
  exclusion::LockEntryTree entries;
  std::unique_ptr<exclusion::Scheme> exclusion;
  Mutex alloc_mutex;
  Placement placement GUARDED_BY(alloc_mutex);
  std::atomic<uint64_t> zero_blocks{0};  // volatile zero blocks in `entries`
  std::atomic<int64_t> mtime_ns{0};  // last one made persistent by a write
  // Some page is, or was in a mapping that has not been asked since, installed writable: stores may happen unseen.
  std::atomic<bool> stores_unseen{false};
  // Acked mode: some hole of it has been shown to a client as zeros, by its sentinel.
  std::atomic<bool> zeros_shown{false};
  // Mappings taken over from a former manager whose old PTEs may still be there: any page of the file, no entry says so.
  std::atomic<uint64_t> foreign_ptes{0};
  // Mappings of it that are direct (acked mode, or a read-only client's), until nothing of them can be mapped any more.
  std::atomic<uint64_t> direct_mappings{0};
  // Since it is in memory. A fault adds to one of them, on the line of a cache that nothing else of it needs.
  struct alignas(64) Traffic {
    Counter faults, invalidates, zapped_pages;
  } traffic;
  // Clients of a former manager may have stored to any page without a fault that this one saw: fsync flushes them all.
  std::atomic<bool> all_dirty{false};

 private:
  Mutex listeners_mutex_{LockRank::kLeaf, "inode listeners"};
  std::vector<SizeListener*> listeners_ GUARDED_BY(listeners_mutex_);
  std::vector<std::weak_ptr<PteHolder>> pte_holders_ GUARDED_BY(listeners_mutex_);
};

}  // namespace pmfs
