#include "pmfs/meta/deferred.h"

#include <algorithm>

#include "pmfs/meta/checksum.h"

namespace pmfs::meta {
namespace {

constexpr size_t kExtentsPerStep = 256;
constexpr uint64_t kBlocksPerStep = 64 * kGroupBlocks;  // their bitmaps go to the undo log

size_t bytes_for(size_t entries) { return offsetof(DeferredMedia, entry) + entries * sizeof(DeferredEntry); }

// Before and after storing to the header of a record, or to the entries of a new one.
void snapshot_header(DeferredMedia* b) {
  transaction::snapshot(reinterpret_cast<std::byte*>(b), offsetof(DeferredMedia, entry));
}
void seal(const pool_base& pop, DeferredMedia* b) {
  const uint64_t off = pop.pptr(b).off;
  reseal(off, &b->checksum, checksum_of(*b, off));
}

DeferredEntry* entries_of(DeferredMedia* b) { return &b->entry[0]; }
const DeferredEntry* entries_of(const DeferredMedia* b) { return &b->entry[0]; }

}  // namespace

bool Deferred::plausible(const Media& m, uint64_t off) {
  uint64_t pool = m.root->sb.pool_bytes;
  if (off == 0 || off % 8 != 0 || off >= pool || pool - off < bytes_for(1)) return false;
  const DeferredMedia* b = m.pop.direct(persistent_ptr<DeferredMedia>{off});
  return b->id != 0 && b->id < m.root->deferred_next_id && b->count > 0 && b->count <= b->capacity &&
         b->capacity <= DeferredMedia::kEntries && bytes_for(b->capacity) <= pool - off;
}

Deferred::Deferred(Media& m) : m_(m) {
  Block prev;
  for (auto b = m_.root->deferred_head.get(); b; prev = b, b = m_.pop.direct(b)->next) {
    // A right predecessor in each rules a cycle out.
    bool ok = plausible(m_, b.off) && m_.pop.direct(b)->prev == prev &&
              m_.pop.direct(b)->checksum == checksum_of(*m_.pop.direct(b), b.off);
    for (uint64_t i = 0; ok && i < m_.pop.direct(b)->count; ++i) {
      const DeferredEntry& e = entries_of(m_.pop.direct(b))[i];
      std::vector<std::string> found;
      ok = e.b == DeferredEntry::kSubtree ? BTree::check_subtree(m_.pop, {e.a}, "", m_.root->sb.pool_bytes, &found)
                                          : e.a < m_.root->sb.blocks && (e.b & ~kSharedExtent) <= m_.root->sb.blocks - e.a;
    }
    if (!ok) fail(EUCLEAN, "the deferred-free list is damaged at offset {:#x} of the pool", b.off);
    index_[m_.pop.direct(b)->id].push_back(b);
  }
}

uint64_t Deferred::add(const ExtentMap::Taken& t) {
  std::vector<DeferredEntry> entries;
  entries.reserve(t.pieces.size() + t.subtrees.size());
  for (const FileExtent& e : t.pieces) entries.push_back({e.pfn.v, e.count | (e.shared ? kSharedExtent : 0)});
  for (auto n : t.subtrees) entries.push_back({n.off, DeferredEntry::kSubtree});
  uint64_t id = m_.root->deferred_next_id;
  m_.root->deferred_next_id = id + 1;
  added_.clear();
  for (size_t i = 0; i < entries.size();) {
    size_t n = std::min<size_t>(entries.size() - i, DeferredMedia::kEntries);
    Block ptr = make_persistent<DeferredMedia>(bytes_for(n));
    DeferredMedia* b = m_.pop.direct(ptr);
    b->id = id;
    b->count = n;
    b->capacity = static_cast<uint32_t>(n);
    std::copy_n(entries.begin() + static_cast<ptrdiff_t>(i), n, entries_of(b));
    b->next = m_.root->deferred_head;
    if (b->next) {
      DeferredMedia* old = m_.pop.direct(b->next);
      snapshot_header(old);
      old->prev = ptr;
      seal(m_.pop, old);
    }
    seal(m_.pop, b);
    m_.root->deferred_head = ptr;
    added_.push_back(ptr);
    i += n;
  }
  return id;
}

void Deferred::committed_add(uint64_t id) { index_.emplace(id, std::move(added_)); }

void Deferred::unlink(Block ptr) {
  DeferredMedia* b = m_.pop.direct(ptr);
  if (b->next) {
    DeferredMedia* n = m_.pop.direct(b->next);
    snapshot_header(n);
    n->prev = b->prev;
    seal(m_.pop, n);
  }
  if (b->prev) {
    DeferredMedia* n = m_.pop.direct(b->prev);
    snapshot_header(n);
    n->next = b->next;
    seal(m_.pop, n);
  } else {
    m_.root->deferred_head = b->next;
  }
  delete_persistent(m_.pop, ptr);
}

Deferred::Progress Deferred::finish_some(uint64_t id, BlockBitmap& bitmap, SharedBlocks& shared) {
  Progress p;
  uint64_t blocks = 0, extents = 0;
  auto give_back = [&](Extent e, bool is_shared) {
    blocks += e.count;
    for (Extent x : is_shared ? shared.drop(e) : std::vector<Extent>{e}) {
      bitmap.clear(x);
      p.freed.push_back(x);
      if (is_shared) p.unzapped.push_back(x);
    }
    ++extents;
  };
  std::vector<Record> leaf;
  const std::vector<Block>& list = index_.at(id);
  for (size_t i = list.size(); i-- > 0;) {
    DeferredMedia* b = m_.pop.direct(list[i]);
    bool counted = false;
    while (b->count > 0) {
      if (extents >= kExtentsPerStep || blocks >= kBlocksPerStep) {
        if (counted) seal(m_.pop, b);
        return p;
      }
      const DeferredEntry& e = entries_of(b)[b->count - 1];
      bool used_up = true;
      if (e.b == DeferredEntry::kSubtree) {
        leaf.clear();
        used_up = BTree::pop_leaf(m_.pop, {e.a}, &leaf);
        for (const Record& r : leaf) give_back(extent_of(r).blocks(), extent_of(r).shared);
      } else {
        give_back({Pfn(e.a), e.b & ~kSharedExtent}, (e.b & kSharedExtent) != 0);
      }
      if (!used_up) continue;
      if (!counted) snapshot_header(b);
      counted = true;
      --b->count;
    }
    unlink(list[i]);
    ++p.emptied;
  }
  p.done = true;
  return p;
}

void Deferred::committed_finish(uint64_t id, const Progress& p) {
  auto it = index_.find(id);
  it->second.resize(it->second.size() - p.emptied);
  if (p.done) index_.erase(it);
}

std::vector<Extent> Deferred::extents_of(const DeferredMedia* b) const {
  std::vector<Extent> out;
  for (size_t i = 0; i < b->count; ++i) {
    const DeferredEntry& e = entries_of(b)[i];
    if (e.b != DeferredEntry::kSubtree) {
      if ((e.b & kSharedExtent) == 0) out.push_back({Pfn(e.a), e.b});
      continue;
    }
    BTree::visit_subtree(m_.pop, {e.a}, [&](const Record& r) {
      if (!extent_of(r).shared) out.push_back(extent_of(r).blocks());
      return true;
    });
  }
  return out;
}

std::vector<Removed> Deferred::all() const {
  std::vector<Removed> out;
  for (const auto& [id, list] : index_) {
    Removed r{id, {}};
    for (Block b : list) {
      auto e = extents_of(m_.pop.direct(b));
      r.extents.insert(r.extents.end(), e.begin(), e.end());
    }
    out.push_back(std::move(r));
  }
  std::sort(out.begin(), out.end(), [](const Removed& a, const Removed& b) { return a.id < b.id; });
  return out;
}

}  // namespace pmfs::meta
