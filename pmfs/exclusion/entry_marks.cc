// The invalidate side of the tree: mark, unmark, and the changes made under a mark.
//
// A range is cut at its two edges: on each level the slots that lie wholly inside are marked where they are, the
// slot an edge runs through is gone down into. So at most two nodes a level carry marks, whatever the length, and
// only those are made if they are missing.
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

// Sets or clears the marks for `r` in `n` and, along the edges, below. The nodes are there (open_edge).
void set_marks(Node& n, Pgoff base, PageRange r, bool set) {
  const uint64_t pages = slot_pages(n.level), end_of_node = base.v + kSlots * pages;
  const uint64_t first = r.first > base ? r.first - base : 0;
  const uint64_t end = r.end.v < end_of_node ? r.end - base : kSlots * pages;
  const uint64_t lo = (first + pages - 1) / pages, hi = end / pages;
  for (uint64_t i = lo; i < hi;) {
    const uint64_t stop = std::min(hi, (i / 64 + 1) * 64);
    const uint64_t mask = (stop - i == 64 ? ~uint64_t{0} : (uint64_t{1} << (stop - i)) - 1) << (i % 64);
    std::atomic<uint64_t>& word = n.marks[i / 64];
    if (!set) {
      word.fetch_and(~mask);
    } else if (word.fetch_or(mask) & mask) {
      overlapping_marks(base + i * pages);
    }
    i = stop;
  }
  auto below = [&](uint64_t i) {
    set_marks(*child_of(n.find(static_cast<unsigned>(i))->load()), base + i * pages, r, set);
  };
  const bool left = first % pages != 0, right = end % pages != 0;
  if (left) below(first / pages);
  if (right && !(left && first / pages == end / pages)) below(end / pages);
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

std::optional<Marks> LockEntryTree::mark(PageRange r, Wait wait) {
  if (r.empty()) return Marks{r, true};
  if (r.end > kEndOfFile) fail(EFBIG, "page {} is beyond the largest file", r.end.v);
  if (!open_edge(r.first, r.first, wait) || !open_edge(r.end, r.end - 1, wait)) return std::nullopt;
  if (!impl_->mark_queue.let_pass(r, wait)) return std::nullopt;
  set_marks(impl_->root, Pgoff(0), r, true);
  PMFS_PAUSE_POINT("mark:set_before_drain");

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
  const Marks marks{r, true};
  if (!busy) return marks;
  unmark(marks);
  return std::nullopt;
}

void LockEntryTree::unmark(const Marks& m) {
  if (!m.held || m.range.empty()) return;
  set_marks(impl_->root, Pgoff(0), m.range, false);
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
