#include "pmfs/fault/fault_around.h"

#include <algorithm>

namespace pmfs::fault {

// Where the stream of a cursor is expected next: a little behind it too, for what has its PTE does not fault.
bool FaultAround::Cursor::follows(Pgoff p) const {
  const uint64_t n = next.load(std::memory_order_relaxed);
  return n != kNone && p.v >= n && p.v - n < kSlack;
}

FaultAround::Window FaultAround::at(Pgoff p) {
  if (crowded_.load(std::memory_order_relaxed) >= kCrowded &&
      faults_.fetch_add(1, std::memory_order_relaxed) % kLook != 0) {
    return {1, 1};
  }
  for (Cursor& c : cursors_) {
    if (!c.follows(p)) continue;
    const uint64_t w = std::min(c.window.load(std::memory_order_relaxed) * 2, kMax);
    c.window.store(w, std::memory_order_relaxed);
    return {w, w};
  }
  // A jump: the stream it replaces loses half of its window for the next one.
  Cursor& c = cursors_[victim_.load(std::memory_order_relaxed) % kCursors];
  uint64_t w = std::max(c.window.load(std::memory_order_relaxed) / 2, kMin);
  c.window.store(w, std::memory_order_relaxed);
  return {w, p.v == 0 ? w : 1};  // files are read and written from the start more often than not
}

void FaultAround::covered(Pgoff p, uint64_t pages, bool neighbour) {
  if (neighbour) {
    crowded_.fetch_add(1, std::memory_order_relaxed);
  } else if (pages > 1) {
    crowded_.store(0, std::memory_order_relaxed);
  }
  for (Cursor& c : cursors_) {
    if (!c.follows(p)) continue;
    c.next.store(p.v + pages, std::memory_order_relaxed);
    return;
  }
  uint32_t v = victim_.fetch_add(1, std::memory_order_relaxed);
  cursors_[v % kCursors].next.store(p.v + pages, std::memory_order_relaxed);
}

}  // namespace pmfs::fault
