#include "pmfs/meta/bitmap.h"

namespace pmfs::meta {

const uint64_t* BlockBitmap::words(uint64_t group) const {
  auto b = table()->group[group].bitmap;
  return b ? m_.pop.direct(b)->word : nullptr;
}

void BlockBitmap::flip(Extent e, bool to_used) {
  for_each_group(e, [&](uint64_t group, uint64_t bit, uint64_t n) {
    GroupMedia* g = &table()->group[group];
    transaction::snapshot(g);
    if (!g->bitmap) {
      if (!to_used) fail(EUCLEAN, "block {} is free already", group * kGroupBlocks + bit);
      g->bitmap = make_persistent<Bitmap>();
    }
    uint64_t* word = m_.pop.direct(g->bitmap)->word;
    transaction::snapshot(word + bit / 64, (bit + n - 1) / 64 - bit / 64 + 1);
    for_each_word(bit, n, [&](uint64_t w, uint64_t mask) {
      if ((word[w] & mask) != (to_used ? 0 : mask)) {
        fail(EUCLEAN, "block bitmap: blocks {} to {} are not all {}", group * kGroupBlocks + bit,
             group * kGroupBlocks + bit + n - 1, to_used ? "free" : "used");
      }
      word[w] ^= mask;
    });
    g->used = to_used ? g->used + n : g->used - n;
  });
}

void BlockBitmap::set(Extent e) { flip(e, true); }
void BlockBitmap::clear(Extent e) { flip(e, false); }

}  // namespace pmfs::meta
