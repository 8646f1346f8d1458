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
// SipHash-2-4: nobody who doesn't know the key can make names collide.
uint64_t siphash(const uint64_t key[2], std::string_view s);

}  // namespace pmfs::meta
