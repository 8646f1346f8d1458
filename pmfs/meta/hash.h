// Checksum of the superblock, keyed hash of directory names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pmfs::meta {

uint32_t crc32c(const void* data, size_t bytes);
// SipHash-2-4: nobody who doesn't know the key can make names collide.
uint64_t siphash(const uint64_t key[2], std::string_view s);

}  // namespace pmfs::meta
