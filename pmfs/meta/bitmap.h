// The persistent block bitmap: one bit per block, set while an extent or the deferred-free list owns it; in
// groups of 32768 blocks, each with a count of its used blocks. A group's bitmap is made with its first block.
//
// Not thread-safe (meta mutex). set() and clear() must be called in a transaction.
#pragma once

#include <algorithm>

#include "pmfs/meta/media.h"

namespace pmfs::meta {

// Calls fn(group, first bit, bits) for the part of `e` in each group.
template <class F>
void for_each_group(Extent e, F&& fn) {
  for (uint64_t b = e.first.v; b < e.end().v;) {
    uint64_t bit = b % kGroupBlocks, n = std::min(kGroupBlocks - bit, e.end().v - b);
    fn(b / kGroupBlocks, bit, n);
    b += n;
  }
}

// Calls fn(word index, mask) for bits [bit, bit + n) of a bitmap.
template <class F>
void for_each_word(uint64_t bit, uint64_t n, F&& fn) {
  for (uint64_t end = bit + n; bit < end;) {
    uint64_t low = bit % 64, k = std::min(64 - low, end - bit);
    fn(bit / 64, (k == 64 ? ~uint64_t{0} : (uint64_t{1} << k) - 1) << low);
    bit += k;
  }
}

class BlockBitmap {
 public:
  explicit BlockBitmap(Media& m) : m_(m) {}

  void set(Extent e);    // EUCLEAN, and no transaction, if a bit is set already
  void clear(Extent e);  // EUCLEAN if a bit is clear already
  uint64_t groups() const { return m_.root->group_count; }
  uint64_t used(uint64_t group) const { return table()->group[group].used; }
  const uint64_t* words(uint64_t group) const;  // nullptr: all free

 private:
  GroupTable* table() const { return m_.pop.direct(m_.root->groups); }
  void flip(Extent e, bool to_used);
  Media& m_;
};

}  // namespace pmfs::meta
