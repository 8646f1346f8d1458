// Checksum of what is on the media, keyed hash of directory names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pmfs::meta {

// CRC-32C (Castagnoli; RFC 3720 appendix B.4), by the CPU's instruction where there is one. `seed`: the result for what
// comes before, so that a sum can be made in pieces.
uint32_t crc32c(const void* data, size_t bytes, uint32_t seed = 0);
uint32_t crc32c_by_table(const void* data, size_t bytes, uint32_t seed = 0);  // the same, on any CPU
// What the object at `off` with this checksum adds to the sum of all seals (Root::seals); none yet (0): nothing. Mixed
// (splitmix64's finaliser, Steele et al. 2014), so that changes of several objects do not cancel out.
inline uint64_t seal_weight(uint64_t off, uint32_t checksum) {
  if (checksum == 0) return 0;
  uint64_t x = off * 0x9e3779b97f4a7c15 ^ checksum;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}
// Checksum of what may hold CRC-32Cs of its own. A CRC can't do that: two contents that each end with their own CRC have the
// same CRC, so a mixture of an old and a new one's lines would pass. `seed`: as of crc32c.
uint64_t mixed_sum(const void* data, size_t bytes, uint64_t seed = 0);
// SipHash-2-4: nobody who doesn't know the key can make names collide.
uint64_t siphash(const uint64_t key[2], std::string_view s);

}  // namespace pmfs::meta
