// Orders of pages, the same in every run.
#pragma once

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace pmfs::bench {

inline uint64_t next_random(uint64_t& x) {  // xorshift64; x is not 0
  x ^= x << 13;
  x ^= x >> 7;
  return x ^= x << 17;
}

// 0 .. pages-1, shuffled if the seed is not 0.
inline std::vector<uint32_t> page_order(uint64_t pages, uint64_t seed) {
  std::vector<uint32_t> order(pages);
  std::iota(order.begin(), order.end(), 0u);
  for (uint64_t i = pages; seed != 0 && i > 1; --i) std::swap(order[i - 1], order[next_random(seed) % i]);
  return order;
}

}  // namespace pmfs::bench
