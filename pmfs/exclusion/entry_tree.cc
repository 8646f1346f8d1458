// The fault side of the tree: lock, unlock, split. The invalidate side is in entry_marks.cc.
//
// Why a fault and a mark can't miss each other. All operations named are sequentially consistent:
//
//   fault                                   mark
//     F1  compare-and-swap LOCKED into slot   M1  set the bits (fetch_or)
//     F2  read the marks on its path          M2  read the slots under the bits
//
// If F2 reads no bit, F2 comes before M1 in the single order of these operations, so F1 before M2: M2 finds LOCKED
// and waits. If F2 reads a bit, the fault backs out. (Dekker; it needs the store-load order, which is why F1 is a
// read-modify-write and not a release store.) The same holds when the fault makes nodes on its way: they are
// linked before F1, so M2 comes across them; and the bits on their path are the ones in their ancestors.
#include "pmfs/exclusion/entry_tree.h"

#include "pmfs/base/error.h"
#include "pmfs/base/lock_order.h"
#include "pmfs/exclusion/entry_impl.h"

namespace pmfs::exclusion {
namespace {

// Goes down to the slot of `p`, and makes what is missing on the way.
void locate(LockEntryTree::Impl& t, Pgoff p, unsigned order, EntryPath& at) {
  at.page = p;
  Node* n = &t.root;
  for (unsigned level = kRoot; level > kLeaf;) {
    at.node[level] = n;
    Slot& s = static_cast<InnerNode*>(n)->get(slot_index(p, level), t.bytes);
    const uint64_t w = s.load();
    if (is_child(w)) {
      n = child_of(w);
      --level;
    } else if (level == 1 && (w != 0 || order == kHugeOrder)) {
      at.bottom = 1;
      at.slot = &s;
      at.word = w;
      return;
    } else {
      descend(s, level - 1, t.bytes);  // somebody may put something else there first: look at this level again
    }
  }
  at.node[kLeaf] = n;
  at.bottom = kLeaf;
  at.slot = &static_cast<LeafNode*>(n)->slots[slot_index(p, kLeaf)];
  at.word = at.slot->load();
}

constexpr uint64_t empty_word(unsigned level) {
  return Entry::kValue | (uint64_t{level == 1} << Entry::kOrderShift);
}

}  // namespace

Entry Entry::make(Pfn pfn, unsigned order, uint64_t flags) {
  return {pfn.v << kPfnShift | uint64_t{order / kHugeOrder} << kOrderShift | kPresent |
          (flags & (kZero | kUnwritten | kDirty | kShown))};
}

LockEntryTree::LockEntryTree(uint64_t lock_key) : impl_(std::make_unique<Impl>(lock_key)) {}

LockEntryTree::~LockEntryTree() {
  InnerNode& root = impl_->root;
#ifdef PMFS_DEBUG_LOCKS
  walk(&root, Pgoff(0), {Pgoff(0), kEndOfFile}, [](Slot&, Pgoff, uint64_t w) {
    if (is_locked(w)) __builtin_trap();
    return false;
  });
#endif
  for (unsigned i = 0; i < kSlots; ++i) {
    Slot* s = root.find(i);
    if (!s) break;
    if (uint64_t w = s->load(); is_child(w)) Node::destroy(child_of(w));
  }
}

LockedEntry LockEntryTree::lock(Pgoff p, unsigned order, Wait wait) {
  if (p >= kEndOfFile) fail(EFBIG, "page {} is beyond the largest file", p.v);
  LockedEntry e;
  if (impl_->try_lock(p, order, wait, &e) == Impl::Try::kLocked || wait == Wait::kNoWait) return e;
  MarkQueue::Turn turn(impl_->mark_queue, p);
  for (;;) {
    if (impl_->try_lock(p, order, wait, &e, &turn) == Impl::Try::kLocked) return e;
  }
}

// One attempt. With a turn, sleeps on what was in the way; without one just says so.
LockEntryTree::Impl::Try LockEntryTree::Impl::try_lock(Pgoff p, unsigned order, Wait wait, LockedEntry* e,
                                                       MarkQueue::Turn* turn) {
  EntryPath at;
  for (;;) {
    locate(*this, p, order, at);
    if (at.marked()) {
      if (turn) wait_for_turn(at, *turn);
      return Try::kInTheWay;
    }
    const uint64_t before = at.word;
    if (is_locked(before)) {
      if (turn) {
        turn->done();
        wait_for(*at.slot, at.head());
      }
      return Try::kInTheWay;
    }
    const uint64_t locked = (before ? before : empty_word(at.bottom)) | Entry::kLocked;
    if (!at.slot->compare_exchange_strong(at.word, locked)) continue;
    PMFS_PAUSE_POINT("entry:locked_before_mark_check");
    if (at.marked()) {
      replace(*at.slot, at.head(), locked, before);
      continue;
    }
    lock_order::acquired(at.slot, LockRank::kEntry, key, "lock entry", wait == Wait::kBlock);
    *e = {at.slot, at.head(), value_of(locked), locked};
    return Try::kLocked;
  }
}

void LockEntryTree::Impl::wait_for_turn(const EntryPath& at, MarkQueue::Turn& turn) {
  lock_order::about_to_block(at.slot, LockRank::kEntry, key, "mark over a lock entry");
  waits.fetch_add(1, std::memory_order_relaxed);
  PMFS_PAUSE_POINT("entry:before_mark_sleep");
  turn.wait([&at] { return at.marked(); }, asleep);
}

bool LockEntryTree::Impl::replace(Slot& slot, Pgoff head, uint64_t locked, uint64_t next) {
  uint64_t found = locked;
  if (slot.compare_exchange_strong(found, next)) return true;
  // Only waiters change the word of a locked entry, and WAITERS once set stays: a second attempt is enough.
  if (found != (locked | Entry::kWaiters) || !slot.compare_exchange_strong(found, next)) return false;
  PMFS_PAUSE_POINT("entry:unlocked_before_wake");
  wake(head);
  return true;
}

bool LockEntryTree::unlock(const LockedEntry& e, Entry v) {
  if (v.present() && v.order() != e.value.order()) {
    fail(EINVAL, "page {}: an entry of order {} unlocked with a value of order {}", e.head.v, e.value.order(),
         v.order());
  }
  const bool ours = impl_->replace(*e.slot, e.head, e.word, word_of(v));
  lock_order::released(e.slot);
  return ours;
}

LockedEntry LockEntryTree::split(const LockedEntry& e, Pgoff p) {
  if (e.value.order() == 0) return e;
  auto leaf = std::make_unique<LeafNode>();
  if (e.value.present()) {
    for (unsigned i = 0; i < kSlots; ++i) {
      leaf->slots[i].store(word_of(Entry::make(e.value.pfn() + i, 0, e.value.flags())), std::memory_order_relaxed);
    }
  }
  Slot& mine = leaf->slots[slot_index(p, kLeaf)];
  const uint64_t before = mine.load();
  const uint64_t locked = (before ? before : empty_word(kLeaf)) | Entry::kLocked;
  mine.store(locked);
  // Publishes the leaf. Who waited for the large entry is woken and finds its page in the leaf.
  const bool ours = impl_->replace(*e.slot, e.head, e.word, word_of(leaf.get()));
  lock_order::released(e.slot);
  if (!ours) return {};
  leaf.release();
  impl_->bytes.fetch_add(sizeof(LeafNode), std::memory_order_relaxed);
  lock_order::acquired(&mine, LockRank::kEntry, impl_->key, "lock entry", false);
  return {&mine, p, value_of(locked), locked};
}

Entry LockEntryTree::peek(Pgoff p) const {
  Node* n = &impl_->root;
  for (unsigned level = kRoot;; --level) {
    Slot* s = n->find(slot_index(p, level));
    const uint64_t w = s ? s->load() : 0;
    if (is_entry(w)) return value_of(w).present() ? value_of(w) : Entry{};
    if (level == kLeaf || w == 0) return {};
    n = child_of(w);
  }
}

uint64_t LockEntryTree::memory_bytes() const { return impl_->bytes.load(std::memory_order_relaxed); }
unsigned LockEntryTree::waiters() const { return impl_->asleep.load(); }
uint64_t LockEntryTree::waits() const { return impl_->waits.load(std::memory_order_relaxed); }

}  // namespace pmfs::exclusion
