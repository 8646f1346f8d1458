#include "pmfs/fs/placement.h"

#include <algorithm>

#include "pmfs/base/error.h"

namespace pmfs {

namespace {
constexpr uint64_t kSmallWindow = 16;  // pages reserved at once in a file below 2 MiB
}

std::map<Pgoff, FileExtent>::iterator Placement::find(Pgoff p) {
  auto it = runs_.upper_bound(p);
  if (it == runs_.begin()) return runs_.end();
  --it;
  return it->second.range().contains(p) ? it : runs_.end();
}

FileExtent Placement::take(Pgoff p, uint64_t want, PageRange hole, uint64_t file_pages,
                           const std::optional<FileExtent>& before) {
  auto it = find(p);
  if (it == runs_.end()) {
    reserve_window(p, want, hole, file_pages, before);
    it = find(p);
  }
  FileExtent run = it->second;
  uint64_t n = std::min({want, run.end() - p, hole.end - p});
  FileExtent taken{p, run.pfn_at(p), n, false};
  runs_.erase(it);
  if (run.pgoff < p) runs_.emplace(run.pgoff, FileExtent{run.pgoff, run.pfn, p - run.pgoff, false});
  if (taken.end() < run.end())
    runs_.emplace(taken.end(), FileExtent{taken.end(), run.pfn_at(taken.end()), run.end() - taken.end(), false});
  blocks_ -= n;
  return taken;
}

void Placement::reserve_window(Pgoff p, uint64_t want, PageRange hole, uint64_t file_pages,
                               const std::optional<FileExtent>& before) {
  // The window: whole 2 MiB blocks around [p, p+want) in a large file, else a few pages from p on; never over
  // pages that have blocks or a reservation already.
  PageRange window{p, p + std::max(want, kSmallWindow)};
  bool large = file_pages >= kHugeBlocks || !store_.unit().single();  // the window is then one unit, or several
  if (large) {
    window.first = Pgoff(p.v & ~(kHugeBlocks - 1));
    window.end = Pgoff((p.v + want + kHugeBlocks - 1) & ~(kHugeBlocks - 1));
  }
  Pgoff aligned_first = window.first;
  window.first = std::max(window.first, hole.first);
  window.end = std::min(window.end, hole.end);
  auto next = runs_.upper_bound(p);
  if (next != runs_.end()) window.end = std::min(window.end, next->first);
  std::optional<FileExtent> left = before && before->end() == window.first ? before : std::nullopt;
  if (next != runs_.begin()) {
    const FileExtent& prev = std::prev(next)->second;
    window.first = std::max(window.first, prev.end());
    if (prev.end() == window.first) left = prev;
  }
  if (!large) window.end = std::max(std::min(window.end, Pgoff(std::max(file_pages, p.v + want))), p + 1);
  // Goal: on from the left neighbour; else congruent with the file offset.
  bool whole = large && window.first == aligned_first;
  Pfn goal = left ? left->pfn + left->count : Pfn(0);
  Extent e = store_.reserve(goal, window.count(), whole && !left ? kHugeBlocks : 1);
  if (e.count <= p - window.first) {  // too fragmented to reach p: take it for p itself
    if (e.count < want && e.count < window.end - p) {
      store_.unreserve(e);
      e = store_.reserve(e.first, std::min(want, window.end - p), 1);
    }
    window.first = p;
    uint64_t fits = std::min(e.count, window.end - p);
    if (fits < e.count) store_.unreserve({e.first + fits, e.count - fits});
    e.count = fits;
  }
  runs_.emplace(window.first, FileExtent{window.first, e.first, e.count, false});
  blocks_ += e.count;
}

uint64_t Placement::release(PageRange r) {
  if (r.empty()) return 0;
  uint64_t released = 0;
  auto it = runs_.upper_bound(r.first);
  if (it != runs_.begin() && std::prev(it)->second.end() > r.first) --it;
  while (it != runs_.end() && it->first < r.end) {
    FileExtent run = it->second;
    it = runs_.erase(it);
    PageRange cut{std::max(run.pgoff, r.first), std::min(run.end(), r.end)};
    if (run.pgoff < cut.first) runs_.emplace(run.pgoff, FileExtent{run.pgoff, run.pfn, cut.first - run.pgoff, false});
    if (cut.end < run.end())
      it = runs_.emplace(cut.end, FileExtent{cut.end, run.pfn_at(cut.end), run.end() - cut.end, false}).first;
    store_.unreserve({run.pfn_at(cut.first), cut.count()});
    released += cut.count();
  }
  blocks_ -= released;
  return released;
}

}  // namespace pmfs
