// What the .cc files of LockEntryTree share: the state of a tree, and the way from the root to a page.
#pragma once

#include "pmfs/base/pause.h"
#include "pmfs/exclusion/entry_node.h"
#include "pmfs/exclusion/mark_queue.h"
#include "pmfs/exclusion/wait_table.h"

namespace pmfs::exclusion {

struct EntryPath;

struct LockEntryTree::Impl {
  explicit Impl(uint64_t k) : key(k) {}

  // Sleeps while the entry is LOCKED. Only a thread that holds no entry of this inode (or a higher one) may.
  void wait_for(Slot& slot, Pgoff head) {
    lock_order::about_to_block(&slot, LockRank::kEntry, key, "lock entry");
    waits.fetch_add(1, std::memory_order_relaxed);
    WaitTable::instance().wait_while_locked(slot, this, head, asleep);
  }
  void wake(Pgoff head) { WaitTable::instance().wake(this, head); }

  enum class Try : uint8_t { kLocked, kInTheWay };
  Try try_lock(Pgoff p, unsigned order, Wait wait, LockedEntry* e, MarkQueue::Turn* turn = nullptr);
  void wait_for_turn(const EntryPath& at, MarkQueue::Turn& turn);

  // `locked` -> `next`, and wakes. One atomic operation unless somebody waits. False: stolen, nothing was stored.
  bool replace(Slot& slot, Pgoff head, uint64_t locked, uint64_t next);

  const uint64_t key;
  Bytes bytes{sizeof(InnerNode)};
  std::atomic<unsigned> asleep{0};
  std::atomic<uint64_t> waits{0};
  MarkQueue mark_queue;
  InnerNode root{kRoot};
};

// The nodes from the root to the slot that stands for a page.
struct EntryPath {
  std::array<Node*, kLevels> node;
  Pgoff page;
  unsigned bottom;  // level of the slot: 0, or 1 for an order-9 entry
  Slot* slot;
  uint64_t word;  // 0 or an entry, as seen on the way

  Pgoff head() const { return slot_head(page, bottom); }
  bool marked() const {
    bool any = false;  // without a branch for each level: six loads that don't wait for one another
    for (unsigned level = kRoot; level > kLeaf; --level) any |= node[level]->marked(slot_index(page, level));
    return any || (bottom == kLeaf && node[kLeaf]->marked(slot_index(page, kLeaf)));
  }
};

}  // namespace pmfs::exclusion
