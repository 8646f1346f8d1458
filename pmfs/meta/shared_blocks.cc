#include "pmfs/meta/shared_blocks.h"

#include <algorithm>

namespace pmfs::meta {

std::vector<Record> SharedBlocks::overlapping(Extent e) const {
  std::vector<Record> out;
  auto left = tree_.floor(e.first.v);
  tree_.visit(left && left->key + left->a > e.first.v ? left->key : e.first.v, [&](const Record& r) {
    if (r.key >= e.end().v) return false;
    out.push_back(r);
    return true;
  });
  return out;
}

bool SharedBlocks::any(Extent e) const { return !overlapping(e).empty(); }

// Inserts a run, joined with neighbours of as many owners.
void SharedBlocks::put(const Run& r) {
  if (r.owners < 2) return;
  Record one{r.blocks.first.v, r.blocks.count, r.owners};
  if (auto next = tree_.find(one.key + one.a); next && next->b == one.b) {
    tree_.erase(next->key);
    one.a += next->a;
  }
  if (one.key > 0) {
    if (auto prev = tree_.floor(one.key - 1); prev && prev->key + prev->a == one.key && prev->b == one.b) {
      tree_.replace(prev->key, {prev->key, prev->a + one.a, one.b});
      return;
    }
  }
  tree_.insert(one);
}

// Takes `e` out of the tree; what it was there, gaps being runs of one owner.
std::vector<SharedBlocks::Run> SharedBlocks::cut_out(Extent e) {
  std::vector<Run> out;
  uint64_t at = e.first.v;
  for (const Record& r : overlapping(e)) {
    const uint64_t first = std::max(r.key, e.first.v), end = std::min(r.key + r.a, e.end().v);
    tree_.erase(r.key);
    if (r.key < first) tree_.insert({r.key, first - r.key, r.b});
    if (end < r.key + r.a) tree_.insert({end, r.key + r.a - end, r.b});
    if (at < first) out.push_back({{Pfn(at), first - at}, 1});
    out.push_back({{Pfn(first), end - first}, r.b});
    at = end;
  }
  if (at < e.end().v) out.push_back({{Pfn(at), e.end().v - at}, 1});
  return out;
}

void SharedBlocks::add(Extent e) {
  for (const Run& r : cut_out(e)) put({r.blocks, r.owners + 1});
}

std::vector<Extent> SharedBlocks::drop(Extent e) {
  std::vector<Extent> freed;
  for (const Run& r : cut_out(e)) {
    if (r.owners == 1) freed.push_back(r.blocks);
    put({r.blocks, r.owners - 1});
  }
  return freed;
}

}  // namespace pmfs::meta
