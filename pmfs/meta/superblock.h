// The superblock: made by format, believed by open only after every check.
#pragma once

#include <array>
#include <filesystem>

#include "pmfs/meta/media.h"

namespace pmfs::meta {

inline constexpr uint32_t kHashBits = 55;  // of a name hash; below them 8 bits of sequence number, see directory.h

// libpmemobj's layout name: it holds the file's size, so that a truncated pool is refused before the library
// touches what is not there any more.
std::string layout_name(uint64_t pool_bytes);
uint64_t default_pool_bytes(uint64_t blocks);
uint32_t superblock_checksum(const SuperblockMedia& sb);

// Of a superblock that has been validated.
Unit unit_of(const SuperblockMedia& sb);

// Returns the uuid. `hash_bits` below kHashBits is for tests of name collisions.
std::array<uint8_t, 16> format_pool(const std::filesystem::path& path, const Geometry& g, uint64_t pool_bytes, uint32_t hash_bits);
// Opens, locks and validates.
Media open_pool(const std::filesystem::path& path);

}  // namespace pmfs::meta
