// The invalidate side of the tree: mark, unmark, and the changes made under a mark.
//
// A range is cut at its two edges: on each level the slots that lie wholly inside are marked where they are, the
// slot an edge runs through is gone down into. So at most two nodes a level carry marks (two *pieces*), whatever the
// length, and only those are made if they are missing.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "pmfs/base/error.h"
#include "pmfs/base/lock_order.h"
#include "pmfs/exclusion/entry_impl.h"

namespace pmfs::exclusion {
namespace {

// Two marks on one page: whoever clears its own first would let faults into the other's range. No way to go on.
[[noreturn]] void overlapping_marks(Pgoff p) {
  fprintf(stderr, "lock entry tree: page %llu: marked twice; invalidates must exclude each other\n",
          static_cast<unsigned long long>(p.v));
  abort();
}

// Slots [lo, hi) of a node, all wholly inside of the range.
struct Piece {
  Node& node;
  Pgoff base;  // of the node
  uint64_t lo, hi;
  PageRange range() const { return {base + lo * slot_pages(node.level), base + hi * slot_pages(node.level)}; }
  // fn(word, mask of the piece's bits in it, first slot of them)
  template <class F>
  void words(F&& fn) const {
    for (uint64_t i = lo; i < hi;) {
      const uint64_t stop = std::min(hi, (i / 64 + 1) * 64);
      const uint64_t mask = (stop - i == 64 ? ~uint64_t{0} : (uint64_t{1} << (stop - i)) - 1) << (i % 64);
      fn(node.marks[i / 64], mask, i);
      i = stop;
    }
  }
  void set() const {
    words([&](std::atomic<uint64_t>& word, uint64_t mask, uint64_t i) {
      if (word.fetch_or(mask) & mask) overlapping_marks(base + i * slot_pages(node.level));
    });
  }
  void clear() const {
    words([](std::atomic<uint64_t>& word, uint64_t mask, uint64_t) { word.fetch_and(~mask); });
  }
};

// The pieces `r` falls into, from the left: fn(piece) -> go on? The nodes along the edges are there (open_edge).
template <class F>
bool each_piece(Node& n, Pgoff base, PageRange r, F&& fn) {
  const uint64_t pages = slot_pages(n.level), end_of_node = base.v + kSlots * pages;
  const uint64_t first = r.first > base ? r.first - base : 0;
  const uint64_t end = r.end.v < end_of_node ? r.end - base : kSlots * pages;
  const uint64_t lo = (first + pages - 1) / pages, hi = end / pages;
  auto below = [&](uint64_t i) {
    return each_piece(*child_of(n.find(static_cast<unsigned>(i))->load()), base + i * pages, r, fn);
  };
  const bool left = first % pages != 0, right = end % pages != 0;
  if (left && !below(first / pages)) return false;
  if (lo < hi && !fn(Piece{n, base, lo, hi})) return false;
  return !right || (left && first / pages == end / pages) || below(end / pages);
}

void clear_marks(Node& root, PageRange r) {
  each_piece(root, Pgoff(0), r, [](const Piece& p) { return p.clear(), true; });
}

bool marked_below(const Node& n, uint64_t lo, uint64_t hi) {
  for (uint64_t i = lo; i < hi; ++i) {
    if (n.marked(static_cast<unsigned>(i))) return true;
    if (n.level == kLeaf) continue;
    Slot* s = const_cast<Node&>(n).find(static_cast<unsigned>(i));
    const uint64_t w = s ? s->load() : 0;
    if (is_child(w) && marked_below(*child_of(w), 0, kSlots)) return true;
  }
  return false;
}

// Is a mark set above the piece, in it, or below it?
bool in_the_way(Node& root, const Piece& p) {
  const Pgoff page = p.range().first;
  for (Node* n = &root; n != &p.node;) {
    const unsigned i = slot_index(page, n->level);
    if (n->marked(i)) return true;
    n = child_of(n->find(i)->load());
  }
  return marked_below(p.node, p.lo, p.hi);
}

}  // namespace

// Makes the nodes along one edge of a range, and splits a large entry the edge runs through; nothing is marked yet,
// so there is nothing to undo when it fails. `inside` is the page of the range next to the edge: it can't be under
// somebody else's mark.
bool LockEntryTree::open_edge(Pgoff edge, Pgoff inside, Wait wait) {
  Node* n = &impl_->root;
  for (unsigned level = kRoot; level > kLeaf && !edge.aligned(slot_pages(level)); --level) {
    Slot& s = static_cast<InnerNode*>(n)->get(slot_index(edge, level), impl_->bytes);
    Node* below;
    while (!(below = descend(s, level - 1, impl_->bytes))) {
      LockedEntry e = lock(inside, kHugeOrder, wait);
      if (!e) return false;
      if (LockedEntry small = split(e, inside)) unlock(small, small.value);
    }
    n = below;
  }
  return true;
}

bool LockEntryTree::open_edges(PageRange r, Wait wait) {
  if (r.empty()) return true;
  if (r.end > kEndOfFile) fail(EFBIG, "page {} is beyond the largest file", r.end.v);
  return open_edge(r.first, r.first, wait) && open_edge(r.end, r.end - 1, wait);
}

bool LockEntryTree::drain(PageRange r, Wait wait) {
  bool busy = false;
  walk(&impl_->root, Pgoff(0), r, [&](Slot& slot, Pgoff head, uint64_t word) {
    if (!is_locked(word)) return false;
    if (wait == Wait::kNoWait) {
      busy = true;
      return false;
    }
    impl_->wait_for(slot, head);
    return true;  // it may have been split by its owner: what is below it counts too
  });
  return !busy;
}

std::optional<Marks> LockEntryTree::mark(PageRange r, Wait wait) {
  const Marks marks{r, true};
  if (r.empty()) return marks;
  if (!open_edges(r, wait) || !impl_->mark_queue.let_pass(r, wait)) return std::nullopt;
  each_piece(impl_->root, Pgoff(0), r, [](const Piece& p) { return p.set(), true; });
  PMFS_PAUSE_POINT("mark:set_before_drain");
  if (drain(r, wait)) return marks;
  unmark(marks);
  return std::nullopt;
}

// A piece is taken whole or not at all, with the mutex of the mark queue held, and one that waits for a piece holds
// only pieces to the left of it. So whoever it waits for has come further to the right: no cycle.
std::optional<Marks> LockEntryTree::mark_in_order(PageRange r, Wait wait) {
  Marks marks{r, true};
  if (r.empty()) return marks;
  if (!open_edges(r, wait)) return std::nullopt;
  const bool all = each_piece(impl_->root, Pgoff(0), r, [&](const Piece& p) {
    marks.range.end = p.range().first;
    PMFS_PAUSE_POINT("mark:before_piece");
    return impl_->mark_queue.take(
        p.range(), wait, [&] { return in_the_way(impl_->root, p); }, [&] { p.set(); }, impl_->asleep);
  });
  if (all) marks.range.end = r.end;
  PMFS_PAUSE_POINT("mark:set_before_drain");
  if (all && drain(r, wait)) return marks;
  unmark(marks);
  return std::nullopt;
}

void LockEntryTree::unmark(const Marks& m) {
  if (!m.held || m.range.empty()) return;
  clear_marks(impl_->root, m.range);
  PMFS_PAUSE_POINT("mark:cleared_before_wake");
  impl_->mark_queue.grant(m.range);
}

bool LockEntryTree::marked(Pgoff p) const {
  Node* n = &impl_->root;
  for (unsigned level = kRoot;; --level) {
    const unsigned i = slot_index(p, level);
    if (n->marked(i)) return true;
    Slot* s = n->find(i);
    const uint64_t w = s ? s->load() : 0;
    if (level == kLeaf || !is_child(w)) return false;
    n = child_of(w);
  }
}

void LockEntryTree::for_each(PageRange r, const std::function<void(Pgoff, Entry)>& fn) const {
  walk(&impl_->root, Pgoff(0), r, [&](Slot&, Pgoff head, uint64_t word) {
    if (value_of(word).present()) fn(head, value_of(word));
    return false;
  });
}

// Under a mark an entry is LOCKED for no longer than a fault takes to see the mark and back out; its word must be
// left alone meanwhile. The entry is locked around fn, so that fn is called once for each.
void LockEntryTree::update(PageRange r, const std::function<Entry(Pgoff, Entry)>& fn) {
  walk(&impl_->root, Pgoff(0), r, [&](Slot& slot, Pgoff head, uint64_t word) {
    if (is_locked(word)) {
      impl_->wait_for(slot, head);
      return true;
    }
    const uint64_t locked = word | Entry::kLocked;
    if (!slot.compare_exchange_strong(word, locked)) return true;
    const Entry was = value_of(word);
    uint64_t next = word;  // should fn throw
    auto unlock = [&] { impl_->replace(slot, head, locked, next); };
    struct Guard {
      decltype(unlock)& f;
      ~Guard() { f(); }
    } guard{unlock};
    const Entry now = fn(head, was);
    if (now.present() && now.order() != was.order()) {
      fail(EINVAL, "page {}: an entry of order {} updated to order {}", head.v, was.order(), now.order());
    }
    next = word_of(now);
    return false;
  });
}

void LockEntryTree::erase(PageRange r, Erase how) {
  walk(&impl_->root, Pgoff(0), r, [&](Slot& slot, Pgoff head, uint64_t word) {
    if (is_locked(word) && how == Erase::kMarked) {
      impl_->wait_for(slot, head);
      return true;
    }
    if (!slot.compare_exchange_strong(word, 0)) return true;
    if (word & Entry::kWaiters) impl_->wake(head);
    return false;
  });
}

}  // namespace pmfs::exclusion
