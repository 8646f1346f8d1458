#include "pmfs/fault/fault_around.h"

#include <algorithm>

namespace pmfs::fault {

FaultAround::Window FaultAround::at(Pgoff p) {
  for (Cursor& c : cursors_) {
    uint64_t next = c.next.load(std::memory_order_relaxed), w = c.window.load(std::memory_order_relaxed);
    if (next == ~uint64_t{0} || p.v < next || p.v >= next + w) continue;
    w = std::min(w * 2, kMax);
    c.window.store(w, std::memory_order_relaxed);
    return {w, w};
  }
  // A jump: the stream it replaces loses half of its window for the next one.
  Cursor& c = cursors_[victim_.load(std::memory_order_relaxed) % kCursors];
  uint64_t w = std::max(c.window.load(std::memory_order_relaxed) / 2, kMin);
  c.window.store(w, std::memory_order_relaxed);
  return {w, p.v == 0 ? w : 1};  // files are read and written from the start more often than not
}

void FaultAround::covered(Pgoff p, uint64_t pages) {
  for (Cursor& c : cursors_) {
    uint64_t next = c.next.load(std::memory_order_relaxed), w = c.window.load(std::memory_order_relaxed);
    if (next == ~uint64_t{0} || p.v < next || p.v >= next + w) continue;
    c.next.store(p.v + pages, std::memory_order_relaxed);
    return;
  }
  uint32_t v = victim_.fetch_add(1, std::memory_order_relaxed);
  cursors_[v % kCursors].next.store(p.v + pages, std::memory_order_relaxed);
}

}  // namespace pmfs::fault
