// The stamped words of a page: one 64-bit word each, so that a load sees one whole store.
//
//   bits 63..50 file id (14, never 0)   49..34 page of the file (16)   33..8 generation (26)   7..0 check (8)
//
// The check is salted with the word's number in its page. Zero is no stamp.
#pragma once

#include <cstdint>
#include <string>

namespace torture {

inline constexpr uint32_t kStampIds = (1u << 14) - 1;
inline constexpr uint32_t kMaxEpoch = (1u << 26) - 1;
inline constexpr uint64_t kFreedPattern = 0x5AFEB10C0DEADF5Eull;  // what the manager's canary leaves in freed blocks

struct Stamp {
  uint32_t id = 0, page = 0, gen = 0;
};

uint64_t encode(const Stamp& s, unsigned word);
bool decode(uint64_t value, unsigned word, Stamp* out);  // false: the check does not fit
std::string describe(uint64_t value, unsigned word);

}  // namespace torture
