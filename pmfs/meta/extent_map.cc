#include "pmfs/meta/extent_map.h"

#include <algorithm>

namespace pmfs::meta {
namespace {

FileExtent clip(const FileExtent& e, PageRange r) {
  Pgoff first = std::max(e.pgoff, r.first), end = std::min(e.end(), r.end);
  return {first, e.pfn_at(first), end - first, e.unwritten, e.shared};
}

bool joins(const FileExtent& a, const FileExtent& b) {
  return a.end() == b.pgoff && a.pfn + a.count == b.pfn && a.unwritten == b.unwritten &&
         a.shared == b.shared;
}

}  // namespace

FileExtent extent_of(const Record& r) {
  return {Pgoff(r.key), Pfn(r.a), r.b & ~(kUnwritten | kSharedExtent), (r.b & kUnwritten) != 0,
          (r.b & kSharedExtent) != 0};
}

Record record_of(const FileExtent& e) {
  return {e.pgoff.v, e.pfn.v, e.count | (e.unwritten ? kUnwritten : 0) | (e.shared ? kSharedExtent : 0)};
}

std::optional<FileExtent> ExtentMap::lookup(Pgoff p) const {
  auto r = tree_.floor(p.v);
  if (!r || !extent_of(*r).range().contains(p)) return std::nullopt;
  return extent_of(*r);
}

std::vector<FileExtent> ExtentMap::list(PageRange r, size_t max) const {
  std::vector<FileExtent> out;
  if (r.empty() || max == 0) return out;
  auto first = lookup(r.first);
  tree_.visit(first ? first->pgoff.v : r.first.v, [&](const Record& rec) {
    FileExtent e = extent_of(rec);
    if (e.pgoff >= r.end) return false;
    out.push_back(clip(e, r));
    return out.size() < max;
  });
  return out;
}

bool ExtentMap::any(PageRange r) const { return !list(r, 1).empty(); }

std::vector<FileExtent> ExtentMap::with_flag(PageRange r, bool unwritten) const {
  auto all = list(r, SIZE_MAX);
  std::erase_if(all, [&](const FileExtent& e) { return e.unwritten != unwritten; });
  return all;
}

void ExtentMap::insert_merging(const FileExtent& e) {
  std::optional<FileExtent> prev, next;
  if (e.pgoff.v > 0)
    if (auto r = tree_.floor(e.pgoff.v - 1)) prev = extent_of(*r);
  if (auto r = tree_.find(e.end().v)) next = extent_of(*r);
  bool with_prev = prev && joins(*prev, e), with_next = next && joins(e, *next);
  FileExtent merged = e;
  if (with_next) {
    tree_.erase(next->pgoff.v);
    merged.count += next->count;
  }
  if (with_prev) {
    merged.pgoff = prev->pgoff;
    merged.pfn = prev->pfn;
    merged.count += prev->count;
    tree_.replace(prev->pgoff.v, record_of(merged));
  } else {
    tree_.insert(record_of(merged));
  }
}

void ExtentMap::insert(const FileExtent& e) {
  insert_merging(e);
  inode_->blocks += e.count;
}

void ExtentMap::carve(const FileExtent& host, PageRange r) {
  FileExtent head = clip(host, {host.pgoff, r.first}), tail = clip(host, {r.end, host.end()});
  if (host.pgoff < r.first) {
    tree_.replace(host.pgoff.v, record_of(head));
    if (r.end < host.end()) tree_.insert(record_of(tail));
  } else if (r.end < host.end()) {
    tree_.replace(host.pgoff.v, record_of(tail));
  } else {
    tree_.erase(host.pgoff.v);
  }
}

ExtentMap::Taken ExtentMap::remove(PageRange r) {
  Taken out;
  uint64_t blocks = 0;
  auto count = [&](const FileExtent& e) {
    blocks += e.count;
    if (!e.shared) out.all.push_back(e.blocks());
  };
  auto take = [&](const FileExtent& e) {
    out.pieces.push_back(e);
    count(e);
  };
  // Extents that reach over an edge of the range are split there first; the rest is whole records.
  for (Pgoff edge : {r.first, Pgoff(r.end.v - 1)}) {
    auto host = lookup(edge);
    if (!host || (r.first <= host->pgoff && host->end() <= r.end)) continue;
    take(clip(*host, r));
    carve(*host, clip(*host, r).range());
  }
  BTree::Cut cut = tree_.cut(r.first.v, r.end.v);
  uint64_t records = cut.records.size();
  for (const Record& rec : cut.records) take(extent_of(rec));
  for (auto n : cut.subtrees) {
    BTree::visit_subtree(pop_, n, [&](const Record& rec) {
      count(extent_of(rec));
      ++records;
      return true;
    });
  }
  out.subtrees = std::move(cut.subtrees);
  tree_.forget(records);
  inode_->blocks -= blocks;
  return out;
}

void ExtentMap::set_shared(const FileExtent& part, bool shared) {
  auto host = lookup(part.pgoff);
  if (!host || host->end() < part.end()) fail(EUCLEAN, "extent at page {} changed under its update", part.pgoff.v);
  carve(*host, part.range());
  FileExtent e = part;
  e.shared = shared;
  insert_merging(e);
}

Pgoff ExtentMap::end() const {
  auto last = tree_.floor(UINT64_MAX - 1);
  return last ? extent_of(*last).end() : Pgoff(0);
}

void ExtentMap::move_up(Pgoff from, uint64_t pages) {
  auto host = lookup(from);
  if (host && host->pgoff < from) carve(*host, {from, from});
  tree_.shift_up(from.v, pages);
}

void ExtentMap::move_down(PageRange hole) {
  tree_.shift_down(hole.end.v, hole.count());
  if (hole.first.v == 0) return;
  auto left = tree_.floor(hole.first.v - 1), right = tree_.find(hole.first.v);
  if (!left || !right || !joins(extent_of(*left), extent_of(*right))) return;
  FileExtent one = extent_of(*left);
  one.count += extent_of(*right).count;
  tree_.erase(right->key);
  tree_.replace(left->key, record_of(one));
}

void ExtentMap::set_flag(const FileExtent& part, bool unwritten) {
  // Its neighbours may have grown together with an earlier part: find what holds it now.
  auto host = lookup(part.pgoff);
  if (!host || host->end() < part.end()) fail(EUCLEAN, "extent at page {} changed under its update", part.pgoff.v);
  carve(*host, part.range());
  FileExtent e = part;
  e.unwritten = unwritten;
  insert_merging(e);
}

}  // namespace pmfs::meta
