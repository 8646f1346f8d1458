// The nodes of LockEntryTree. Private to the .cc files of the tree.
//
// A leaf has its 512 slots in place: 8.1 bytes a page when the file is mapped densely. An inner node keeps 8 in
// place and the other 504 in an array made on first use: almost every file lives in the first slots of the upper
// five levels, and would pay 20 KiB for them otherwise.
//
// A slot holds 0, an entry (bit 0 set) or the address of a child node (bit 0 clear). A child, once there, stays
// until the tree dies, so a pointer read from a slot is good for ever.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "pmfs/base/types.h"
#include "pmfs/exclusion/entry_tree.h"

namespace pmfs::exclusion {

using Slot = std::atomic<uint64_t>;
using Bytes = std::atomic<uint64_t>;

inline constexpr unsigned kSlotBits = 9, kSlots = 1u << kSlotBits, kLevels = 6, kLeaf = 0, kRoot = kLevels - 1;

// Pages that one slot of a node of `level` covers.
constexpr uint64_t slot_pages(unsigned level) { return uint64_t{1} << (level * kSlotBits); }
constexpr unsigned slot_index(Pgoff p, unsigned level) { return (p.v >> (level * kSlotBits)) & (kSlots - 1); }
constexpr Pgoff slot_head(Pgoff p, unsigned level) { return Pgoff(p.v & ~(slot_pages(level) - 1)); }

constexpr bool is_entry(uint64_t word) { return word & Entry::kValue; }
constexpr bool is_locked(uint64_t word) { return is_entry(word) && (word & Entry::kLocked); }
constexpr bool is_child(uint64_t word) { return word != 0 && !is_entry(word); }
constexpr Entry value_of(uint64_t word) {
  return {word & ~(Entry::kValue | Entry::kLocked | Entry::kWaiters)};
}
// The word of an unlocked entry. An absent value is no entry.
constexpr uint64_t word_of(Entry v) { return v.present() ? v.bits | Entry::kValue : 0; }

struct Node {
  explicit Node(unsigned l) : level(l) {}
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  bool marked(unsigned i) const { return marks[i / 64].load() >> (i % 64) & 1; }
  Slot* find(unsigned i);  // null: never made, and so empty

  static Node* make(unsigned level, Bytes& bytes);
  static void destroy(Node* n);  // with all below

  const unsigned level;
  std::array<std::atomic<uint64_t>, kSlots / 64> marks{};
};

struct LeafNode : Node {
  LeafNode() : Node(kLeaf) {}
  std::array<Slot, kSlots> slots{};
};

struct InnerNode : Node {
  static constexpr unsigned kInPlace = 8;
  using Rest = std::array<Slot, kSlots - kInPlace>;
  explicit InnerNode(unsigned l) : Node(l) {}
  ~InnerNode() { delete rest.load(); }
  Slot* find(unsigned i) {
    if (i < kInPlace) return &slots[i];
    Rest* r = rest.load();
    return r ? &(*r)[i - kInPlace] : nullptr;
  }
  Slot& get(unsigned i, Bytes& bytes) {  // makes it if need be
    Slot* s = find(i);
    return s ? *s : make_rest(i, bytes);
  }
  Slot& make_rest(unsigned i, Bytes& bytes);

  std::array<Slot, kInPlace> slots{};
  std::atomic<Rest*> rest{nullptr};
};

inline Node* child_of(uint64_t word) { return reinterpret_cast<Node*>(word); }
inline uint64_t word_of(const Node* child) { return reinterpret_cast<uint64_t>(child); }

inline Slot* Node::find(unsigned i) {
  return level == kLeaf ? &static_cast<LeafNode*>(this)->slots[i] : static_cast<InnerNode*>(this)->find(i);
}

// The child of `slot`, made if the slot is empty. Null: an entry is there (level 1 only).
Node* descend(Slot& slot, unsigned child_level, Bytes& bytes);

// Calls fn(slot, head, word) for every entry that overlaps `r`. fn returns true when the slot may hold something
// else by now: it is looked at again, and below it if it was split.
template <class F>
void walk(Node* n, Pgoff base, PageRange r, F&& fn) {
  const uint64_t pages = slot_pages(n->level);
  const uint64_t first = r.first > base ? (r.first - base) / pages : 0;
  for (uint64_t i = first; i < kSlots; ++i) {
    const Pgoff head = base + i * pages;
    if (head >= r.end) return;
    Slot* s = n->find(static_cast<unsigned>(i));
    if (!s) return;  // then the slots behind it aren't there either
    uint64_t w = s->load();
    while (is_entry(w) && fn(*s, head, w)) w = s->load();
    if (is_child(w)) walk(child_of(w), head, r, fn);
  }
}

}  // namespace pmfs::exclusion
