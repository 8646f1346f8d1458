#include "pmfs/fault/vma_table.h"

#include <algorithm>

namespace pmfs::fault {

VmaTable::VmaTable(PageRange part, const VmaTable& of) : VmaTable(part) {
  for (Pgoff p = part.first; p < part.end;) {
    VmaSegment s = of.at(p);
    if (s.kind == VmaKind::kRegion) s.pfn = s.pfn_at(p);
    s.pages = {p, std::min(s.pages.end, part.end)};
    p = s.pages.end;
    assign(s);
  }
}

const VmaSegment& VmaTable::at(Pgoff p) const { return std::prev(map_.upper_bound(p))->second; }

void VmaTable::split(Pgoff p) {
  if (p <= all_.first || p >= all_.end) return;
  auto it = std::prev(map_.upper_bound(p));
  if (it->first == p) return;
  VmaSegment right = it->second;
  it->second.pages.end = p;
  right.pfn = right.kind == VmaKind::kRegion ? right.pfn_at(p) : right.pfn;
  right.pages.first = p;
  map_.emplace(p, right);
}

void VmaTable::assign(const VmaSegment& s) {
  split(s.pages.first);
  split(s.pages.end);
  map_.erase(map_.lower_bound(s.pages.first), map_.lower_bound(s.pages.end));
  auto it = map_.emplace(s.pages.first, s).first;
  auto joins = [](const VmaSegment& a, const VmaSegment& b) {
    return a.kind == b.kind && a.pending == b.pending && a.command == b.command && (a.kind != VmaKind::kRegion || a.pfn_at(b.pages.first) == b.pfn);
  };
  auto next = std::next(it);
  if (next != map_.end() && joins(it->second, next->second)) {
    it->second.pages.end = next->second.pages.end;
    map_.erase(next);
  }
  if (it != map_.begin()) {
    auto prev = std::prev(it);
    if (joins(prev->second, it->second)) {
      prev->second.pages.end = it->second.pages.end;
      map_.erase(it);
    }
  }
}

void VmaTable::executed(VmaSegment s) {
  const PageRange all = s.pages;
  const VmaSegment whole = s;
  for (Pgoff p = all.first; p < all.end;) {
    const VmaSegment& now = at(p);
    s.pages = {p, std::min(now.pages.end, all.end)};
    p = s.pages.end;
    if (now.command != whole.command) continue;
    if (s.kind == VmaKind::kRegion) s.pfn = whole.pfn_at(s.pages.first);
    s.pending = false;
    s.command = 0;
    assign(s);
  }
}

PageRange VmaTable::widen(PageRange r, PageRange within, VmaKind kind) const {
  auto fits = [&](const VmaSegment& s) { return s.kind == kind && !s.pending; };
  while (r.first > within.first) {
    const VmaSegment& s = at(r.first - 1);
    if (!fits(s)) break;
    r.first = std::max(s.pages.first, within.first);
  }
  while (r.end < within.end) {
    const VmaSegment& s = at(r.end);
    if (!fits(s)) break;
    r.end = std::min(s.pages.end, within.end);
  }
  return r;
}

bool VmaTable::any_pending(PageRange r) const {
  for (Pgoff p = r.first; p < r.end; p = at(p).pages.end)
    if (at(p).pending) return true;
  return false;
}

}  // namespace pmfs::fault
