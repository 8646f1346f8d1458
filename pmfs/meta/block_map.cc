#include "pmfs/meta/block_map.h"

#include <bit>
#include <cstring>

namespace pmfs::meta {
namespace {

// Index of the first bit >= `from` and < `to` that is `value`; `to` if none.
uint64_t scan(const uint64_t* word, uint64_t from, uint64_t to, bool value) {
  while (from < to) {
    uint64_t w = (value ? word[from / 64] : ~word[from / 64]) >> (from % 64);
    if (w != 0) return std::min(to, from + static_cast<uint64_t>(std::countr_zero(w)));
    from = (from / 64 + 1) * 64;
  }
  return to;
}

constexpr uint64_t round_up(uint64_t v, uint64_t a) { return (v + a - 1) / a * a; }
constexpr int kRunsLookedAt = 256;  // in search of a long one, before the longest seen is good enough

}  // namespace

BlockMap::BlockMap(const BlockBitmap& media, uint64_t blocks, Unit unit)
    : media_(media), unit_(unit), blocks_(blocks), groups_(media.groups()) {
  for (uint64_t g = 0; g < groups_.size(); ++g) {
    uint64_t used = std::min(media.used(g), size_of(g));
    groups_[g].free = size_of(g) - used;
    groups_[g].untouched = used == 0;
    free_ += groups_[g].free;
  }
}

void BlockMap::grow(uint64_t blocks) {
  const uint64_t more = blocks - blocks_;
  const size_t had = groups_.size();
  if (had > 0) {  // the last group was perhaps not a whole one
    const uint64_t size = size_of(had - 1);
    blocks_ = blocks;
    groups_[had - 1].free += size_of(had - 1) - size;
    groups_[had - 1].no_run = UINT64_MAX;
  }
  groups_.resize((blocks + kGroupBlocks - 1) / kGroupBlocks);
  for (size_t g = had; g < groups_.size(); ++g) {
    groups_[g].free = size_of(g);
    groups_[g].untouched = true;
  }
  free_ += more;
}

BlockMap::Bits& BlockMap::bits(uint64_t group, Load load) {
  Group& g = groups_[group];
  if (g.bits) return *g.bits;
  if (!g.untouched && load == Load::kNo) throw NeedsLoad();
  g.bits = std::make_unique<Bits>();
  if (const uint64_t* w = g.untouched ? nullptr : media_.words(group)) std::memcpy(g.bits->busy, w, sizeof(Bitmap));
  g.untouched = false;
  return *g.bits;
}

uint64_t BlockMap::next_free(uint64_t from, uint64_t to, Load load) {
  while (from < to) {
    uint64_t group = from / kGroupBlocks, base = group * kGroupBlocks, end = std::min(to, base + kGroupBlocks);
    Group& g = groups_[group];
    if (g.untouched) return from;
    if (g.free > 0) {
      uint64_t at = base + scan(bits(group, load).busy, from - base, end - base, false);
      if (at < end) return at;
    }
    from = end;
  }
  return to;
}

uint64_t BlockMap::next_busy(uint64_t from, uint64_t to, Load load) {
  while (from < to) {
    uint64_t group = from / kGroupBlocks, base = group * kGroupBlocks, end = std::min(to, base + kGroupBlocks);
    if (!groups_[group].untouched) {
      uint64_t at = base + scan(bits(group, load).busy, from - base, end - base, true);
      if (at < end) return at;
    }
    from = end;
  }
  return to;
}

// The first start of a free run of `count` in [from, to), where the run may reach behind `to`.
std::optional<uint64_t> BlockMap::find_aligned_in(uint64_t from, uint64_t to, uint64_t count, uint64_t align,
                                                  Load load) {
  for (uint64_t p = from; p < to;) {
    p = next_free(p, to, load);
    if (p == to) break;
    p = round_up(p, align);
    if (p >= to || count > blocks_ - p) break;
    uint64_t q = next_busy(p, p + count, load);
    if (q == p + count) return p;
    p = q + 1;
  }
  return std::nullopt;
}

std::optional<uint64_t> BlockMap::find_aligned(uint64_t goal, uint64_t count, uint64_t align, Load load) {
  if (count > align || kGroupBlocks % align != 0) {  // a run may cross groups
    if (auto p = find_aligned_in(goal, blocks_, count, align, load)) return p;
    return find_aligned_in(0, goal, count, align, load);
  }
  uint64_t n = groups_.size(), home = goal / kGroupBlocks;
  for (uint64_t i = 0; i <= n; ++i) {  // home is visited again at the end, for what is in front of the goal
    uint64_t group = (home + i) % n, base = group * kGroupBlocks;
    Group& g = groups_[group];
    if (g.free < count || count >= g.no_run) continue;
    uint64_t from = i == 0 ? goal : base;
    if (auto p = find_aligned_in(from, base + size_of(group), count, align, load)) return p;
    // Hints are about runs aligned to their own size at least, so they hold for any such request.
    if (from == base && align >= kHugeBlocks && count >= kHugeBlocks && align == std::bit_ceil(count)) g.no_run = count;
  }
  return std::nullopt;
}

// The free run at or behind `goal`, wrapping round, that has `count` blocks, or the longest of those looked at.
Extent BlockMap::find_near(uint64_t goal, uint64_t count, Load load) {
  Extent best{};
  int looked = 0;
  auto search = [&](uint64_t from, uint64_t to) {
    while (looked < kRunsLookedAt || best.count == 0) {
      uint64_t p = next_free(from, to, load);
      if (p >= to) return false;
      uint64_t n = next_busy(p, std::min(blocks_, p + count), load) - p;
      if (n > best.count) best = {Pfn(p), n};
      if (n == count) return true;
      ++looked;
      from = p + n + 1;
    }
    return true;
  };
  if (!search(goal, blocks_)) search(0, goal);
  return best;
}

Extent BlockMap::take(uint64_t first, uint64_t count, Load load) {
  Extent e{Pfn(first), count};
  for_each_group(e, [&](uint64_t group, uint64_t, uint64_t) { bits(group, load); });  // throws before any change
  for_each_group(e, [&](uint64_t group, uint64_t bit, uint64_t n) {
    Bits& b = *groups_[group].bits;
    for_each_word(bit, n, [&](uint64_t w, uint64_t mask) {
      b.busy[w] |= mask;
      b.reserved[w] |= mask;
    });
    groups_[group].free -= n;
  });
  free_ -= count;
  reserved_ += count;
  return e;
}

std::optional<Extent> BlockMap::reserve(Pfn goal_pfn, uint64_t count, uint64_t align, Load load) {
  if (free_ == 0) return std::nullopt;
  uint64_t goal = goal_pfn.v < blocks_ ? goal_pfn.v : 0;
  count = std::min(count, blocks_);
  if (align > 1 && count <= free_)
    if (auto p = find_aligned(goal, count, align, load)) return take(*p, count, load);
  if (!unit_.single()) return reserve_units(goal, count, load);
  uint64_t here = next_busy(goal, std::min(blocks_, goal + count), load) - goal;
  if (here > 0) return take(goal, here, load);
  Extent e = find_near(goal, count, load);
  return take(e.first.v, e.count, load);
}

// Files never take a part of a unit. What others do (a bad block that is kept, a block that is being zeroed) takes its unit out.
std::optional<Extent> BlockMap::reserve_units(uint64_t goal, uint64_t count, Load load) {
  goal = unit_.down(goal);
  const uint64_t here = unit_.down(next_busy(goal, std::min(blocks_, goal + count), load) - goal);
  if (here > 0) return take(goal, here, load);
  for (uint64_t n = unit_.down(count); n > 0; n = unit_.down(n / 2))
    if (auto p = find_aligned(goal, n, unit_.blocks(), load)) return take(*p, n, load);
  return std::nullopt;
}

bool BlockMap::reserve_at(Extent e, Load load) {
  if (e.count == 0 || e.first.v >= blocks_ || e.count > blocks_ - e.first.v) return false;
  if (next_busy(e.first.v, e.end().v, load) != e.end().v) return false;
  take(e.first.v, e.count, load);
  return true;
}

bool BlockMap::all_reserved(Extent e) const {
  if (e.count == 0 || e.first.v >= blocks_ || e.count > blocks_ - e.first.v) return false;
  bool all = true;
  for_each_group(e, [&](uint64_t group, uint64_t bit, uint64_t n) {
    const Group& g = groups_[group];
    all = all && g.bits && scan(g.bits->reserved, bit, bit + n, false) == bit + n;
  });
  return all;
}

void BlockMap::give_back(Extent e) {
  for_each_group(e, [&](uint64_t group, uint64_t bit, uint64_t n) {
    Group& g = groups_[group];
    if (g.bits) {
      for_each_word(bit, n, [&](uint64_t w, uint64_t mask) {
        g.bits->busy[w] &= ~mask;
        g.bits->reserved[w] &= ~mask;
      });
    }
    g.free += n;
    g.no_run = UINT64_MAX;
  });
  free_ += e.count;
}

void BlockMap::unreserve(Extent e) {
  if (!all_reserved(e)) fail(EINVAL, "unreserve: blocks {} to {} are not all reserved", e.first.v, e.end().v - 1);
  give_back(e);
  reserved_ -= e.count;
}

void BlockMap::commit(Extent e) {
  for_each_group(e, [&](uint64_t group, uint64_t bit, uint64_t n) {
    for_each_word(bit, n, [&](uint64_t w, uint64_t mask) { groups_[group].bits->reserved[w] &= ~mask; });
  });
  reserved_ -= e.count;
}

void BlockMap::defer(Extent e) {
  deferred_.emplace(e.first.v, e.count);
  deferred_count_ += e.count;
}

void BlockMap::free_deferred(Extent e) {
  // Deferred in one piece, given back in another: cut it out of whatever pieces hold it.
  for (uint64_t b = e.first.v; b < e.end().v;) {
    auto it = deferred_.upper_bound(b);
    if (it == deferred_.begin()) break;
    --it;
    auto [first, count] = *it;
    uint64_t end = std::min(first + count, e.end().v);
    if (end <= b) break;
    deferred_.erase(it);
    if (first < b) deferred_.emplace(first, b - first);
    if (end < first + count) deferred_.emplace(end, first + count - end);
    deferred_count_ -= end - b;
    b = end;
  }
  give_back(e);
}

BlockState BlockMap::state(Pfn p) {
  if (p.v >= blocks_) fail(EINVAL, "block {} is outside of the region of {} blocks", p.v, blocks_);
  const Bits& b = bits(p.v / kGroupBlocks, Load::kYes);
  uint64_t bit = p.v % kGroupBlocks, mask = uint64_t{1} << (bit % 64);
  if ((b.busy[bit / 64] & mask) == 0) return BlockState::kFree;
  if ((b.reserved[bit / 64] & mask) != 0) return BlockState::kReserved;
  auto it = deferred_.upper_bound(p.v);
  if (it == deferred_.begin()) return BlockState::kUsed;
  --it;
  return p.v < it->first + it->second ? BlockState::kDeferred : BlockState::kUsed;
}

std::vector<Extent> BlockMap::free_extents(Pfn from, size_t max) {
  std::vector<Extent> out;
  for (uint64_t p = from.v; out.size() < max && p < blocks_;) {
    p = next_free(p, blocks_, Load::kYes);
    if (p >= blocks_) break;
    uint64_t q = next_busy(p, blocks_, Load::kYes);
    out.push_back({Pfn(p), q - p});
    p = q;
  }
  return out;
}

}  // namespace pmfs::meta
