// What the checksums on the media cover. Each is over the object's bytes but for the sum itself, and over its place
// (the offset in the pool; of an inode: its number), so that an object that was written to the wrong place doesn't match
// either. An old version of a whole object at its own place does: the sum of all checksums, in the root, tells fsck of that.
#pragma once

#include <cstddef>

#include "pmfs/meta/hash.h"
#include "pmfs/meta/layout.h"

namespace pmfs::meta {

inline uint32_t crc32c_word(uint64_t word, uint32_t seed) { return crc32c(&word, sizeof word, seed); }

// All of the header, and the records or branches there are. `n` may be damaged: nothing behind its capacity is read.
inline uint32_t checksum_of(const Node& n, uint64_t off) {
  const size_t most = n.capacity == Node::kSmall ? kSmallLeafBytes : sizeof(Node);
  const size_t each = n.level > 0 ? sizeof(Branch) : sizeof(Record), bytes = offsetof(Node, records) + n.count * each;
  uint32_t c = crc32c(&n, offsetof(Node, checksum), static_cast<uint32_t>(off));
  return crc32c(&n.records, (bytes < most ? bytes : most) - offsetof(Node, records), c);
}

inline uint32_t checksum_of(const InodeMedia& i) {
  const auto* p = reinterpret_cast<const std::byte*>(&i);
  constexpr size_t kBehind = offsetof(InodeMedia, checksum) + sizeof i.checksum;
  return crc32c(p + kBehind, sizeof i - kBehind, crc32c(p, offsetof(InodeMedia, checksum)));
}

inline uint64_t checksum_of(const Root& r) {
  const auto* p = reinterpret_cast<const std::byte*>(&r);
  constexpr size_t kFrom = offsetof(Root, mount_epoch);
  return crc32c(p + kFrom, offsetof(Root, checksum) - kFrom);
}

// All of what has been made of it: `capacity` entries. `b` must have been seen to lie inside of the pool.
inline uint32_t checksum_of(const DeferredMedia& b, uint64_t off) {
  uint32_t c = crc32c(&b, offsetof(DeferredMedia, checksum), static_cast<uint32_t>(off));
  return crc32c(&b.entry, b.count * sizeof(DeferredEntry), c);
}

inline uint32_t checksum_of(const QuotaMedia& q, uint64_t off) {
  return crc32c(&q, offsetof(QuotaMedia, checksum), static_cast<uint32_t>(off));
}

inline uint32_t checksum_of(const SpareName& n, uint64_t off) {
  return crc32c(&n, offsetof(SpareName, checksum), static_cast<uint32_t>(off));
}

// In a transaction that has snapshotted it: an object's new checksum, and what that makes of the sum of all.
inline void reseal(uint64_t off, uint32_t* checksum, uint32_t sum) {
  transaction::resealed(off, *checksum, sum);
  *checksum = sum;
}

}  // namespace pmfs::meta
