// LockEntryTree: the radix tree of lock entries of one inode (what i_pages is to a DAX inode in the kernel).
//
// Key: pgoff. Nodes have 512 slots, so an entry has order 0 (4 KiB), 9 (2 MiB), ... : the geometry of the
// page tables. Fixed height of 6 levels (54 bits >= the 51 of a 63-bit file). Nodes live until the tree dies:
// lookups take no lock and need no RCU. What has been split or faulted in 4 KiB pages once stays a leaf.
//
// An entry is one 64-bit word:
//   bit 0 VALUE (an entry, not a node pointer) · 1 LOCKED · 2 WAITERS · 3 PRESENT (has a pfn) · 4 ZERO
//   · 5 UNWRITTEN · 6 DIRTY · 7 SHOWN (a PTE may be there) · 8-11 order/9 · 12-63 pfn
//
// Fault side: lock() sets LOCKED with one compare-and-swap on the slot, then reads the marks of the nodes on its
// path; unlock() is one compare-and-swap, which notices a stolen entry. Invalidate side: mark() sets, per level, the
// bits of the covered slots in at most two nodes (so O(log n) of them for a range of any length), then waits until
// no entry under them is LOCKED. A fault that set LOCKED and then sees a mark backs out and waits; the store-load
// order (Dekker, argued in entry_tree.cc) makes one of the two see the other.
// Source: fs/dax.c grab_mapping_entry / dax_lock_page; Wilcox 2020 "let hole punch insert lock entries".
//
//   entry state        | lock()                 | unlock(v) | mark() over it
//   absent             | creates, LOCKED        | error     | marked
//   unlocked           | LOCKED                 | error     | marked
//   LOCKED             | sleeps (or EAGAIN)     | -> v      | marked, sleeps until unlocked
//   marked             | sleeps (or EAGAIN)     | -> v      | error: two invalidates must exclude each other
//
// Waiters sleep in a table hashed by (tree, head of the entry): a waiter at an offset inside a large entry
// waits on its head, which is all the waker knows. A wake-up wakes all waiters of the key, each looks again:
// no wake-up can be lost on a waiter that finds nothing to do or has died. Those who wait for a mark to go get their
// turn before the next mark over their page (mark_queue.h): a loop of punches can't shut a fault out.
//
// A thread may *wait* for one entry of an inode only, and take others of that inode with kNoWait (fault-around):
// order by pgoff would not help, since a mark closes its whole range before it waits for the entries in it. Two
// threads that each hold one and wait for another would be a deadlock with a mark over both. Several inodes: in
// ino order. Checked (kEntry).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "pmfs/base/types.h"

namespace pmfs::exclusion {

struct Entry {
  uint64_t bits = 0;
  static constexpr uint64_t kValue = 1, kLocked = 2, kWaiters = 4, kPresent = 8;
  static constexpr uint64_t kZero = 16, kUnwritten = 32, kDirty = 64, kShown = 128;
  static constexpr unsigned kOrderShift = 8, kPfnShift = 12;
  static Entry make(Pfn pfn, unsigned order, uint64_t flags);  // order 0 or kHugeOrder; PRESENT is implied
  constexpr bool present() const { return bits & kPresent; }
  constexpr bool zero() const { return bits & kZero; }
  constexpr bool unwritten() const { return bits & kUnwritten; }
  constexpr bool dirty() const { return bits & kDirty; }
  constexpr bool shown() const { return bits & kShown; }
  constexpr unsigned order() const { return static_cast<unsigned>((bits >> kOrderShift) & 15) * kHugeOrder; }
  constexpr uint64_t pages() const { return uint64_t{1} << order(); }
  constexpr Pfn pfn() const { return Pfn(bits >> kPfnShift); }
  // As the caller sees it: without VALUE, LOCKED, WAITERS.
  constexpr uint64_t flags() const { return bits & (kZero | kUnwritten | kDirty | kShown); }
};

struct LockedEntry {  // what lock() returns; unlock() takes it back. Plain data: no destructor unlocks it.
  std::atomic<uint64_t>* slot = nullptr;
  Pgoff head;            // first page of the entry
  Entry value;           // present() false: nothing cached here
  uint64_t word = 0;     // as stored while LOCKED
  explicit operator bool() const { return slot != nullptr; }
};

// Returned by mark(); unmark() takes it back.
struct Marks {
  PageRange range{};
  bool held = false;
};

class LockEntryTree {
 public:
  explicit LockEntryTree(uint64_t lock_key);  // orders entries of several inodes: the ino
  ~LockEntryTree();                           // no entry locked, no mark set
  LockEntryTree(const LockEntryTree&) = delete;
  LockEntryTree& operator=(const LockEntryTree&) = delete;

  // Locks the entry that covers `p`. If nothing is there an empty one of `order` is made (of order 0 when
  // smaller entries already live in that 2 MiB). May return an entry of another order than asked for.
  // kNoWait: a null LockedEntry instead of sleeping. Rank kEntry.
  LockedEntry lock(Pgoff p, unsigned order, Wait wait);
  // Stores `v` (its order must be the entry's; an absent value removes it), clears LOCKED, wakes.
  // False when a broken scheme stole the entry meanwhile (erase with kSteal): nothing was stored.
  bool unlock(const LockedEntry& e, Entry v);
  // Replaces a locked order-9 entry by 512 order-0 entries with the same flags and consecutive pfns (or by
  // nothing if absent) and returns the entry of `p`, locked; the others are unlocked. An order-0 entry is returned
  // as it is. Null: stolen.
  LockedEntry split(const LockedEntry& e, Pgoff p);
  // The value at `p` at this moment, for hints and statistics. No lock.
  Entry peek(Pgoff p) const;

  // Invalidate side. Exclusive with other mark() of an overlapping range: the caller's range lock. Splits
  // order-9 entries that straddle an edge of `r`. Null when kNoWait and an entry is locked.
  std::optional<Marks> mark(PageRange r, Wait wait);
  // The same without a range lock: waits for other marks in the way, piece by piece from the left (at most two pieces a
  // level), holding those it has. Not fair between marks. Null when kNoWait and a mark or a locked entry is there.
  std::optional<Marks> mark_in_order(PageRange r, Wait wait);
  void unmark(const Marks& m);  // wakes who waits for the range
  bool marked(Pgoff p) const;

  // For schemes that keep faults out by other means than marks. Splits order-9 entries that straddle an edge of `r`;
  // where that has been done no large entry comes back. False when kNoWait and one is locked.
  bool open_edges(PageRange r, Wait wait);
  // Waits until each entry of `r` that is LOCKED now has been unlocked. False when kNoWait and one is.
  bool drain(PageRange r, Wait wait);

  // Calls fn(head, entry) for every present entry that overlaps `r`. Stable only under a mark.
  void for_each(PageRange r, const std::function<void(Pgoff, Entry)>& fn) const;
  // Same, fn returns the value to store (absent: removed; of the entry's order). Requires a mark over `r`, or a scheme
  // that keeps faults out of it.
  void update(PageRange r, const std::function<Entry(Pgoff, Entry)>& fn);
  // Removes what is in `r`. kMarked: requires a mark, or a scheme that keeps faults out; waits for an entry that is
  // LOCKED for a moment. kSteal (broken schemes): locked entries too.
  enum class Erase { kMarked, kSteal };
  void erase(PageRange r, Erase how);

  uint64_t memory_bytes() const;  // nodes of the tree
  unsigned waiters() const;       // threads asleep on this tree, for tests
  uint64_t waits() const;         // how often one had to wait for an entry or for a mark over it

  struct Impl;  // entry_impl.h

 private:
  bool open_edge(Pgoff edge, Pgoff inside, Wait wait);
  std::unique_ptr<Impl> impl_;
};

}  // namespace pmfs::exclusion
