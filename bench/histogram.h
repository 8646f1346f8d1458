// Counts of nanoseconds in buckets of 3 %, of a fixed size: several processes keep theirs in shared memory.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace pmfs::bench {

class Histogram {
 public:
  void add(uint64_t ns) { ++counts_[bucket(ns)]; }
  void add(const Histogram& o) {
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += o.counts_[i];
  }
  uint64_t total() const {
    uint64_t n = 0;
    for (const uint64_t c : counts_) n += c;
    return n;
  }
  // The lower edge of the bucket that holds the q-th (0..1) of the values; 0 if there are none.
  double quantile(double q) const {
    const uint64_t n = total();
    if (n == 0) return 0;
    const uint64_t rank = std::min(n - 1, static_cast<uint64_t>(q * static_cast<double>(n)));
    uint64_t before = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
      before += counts_[i];
      if (before > rank) return static_cast<double>(lower_edge(i));
    }
    return 0;
  }

 private:
  static constexpr unsigned kSubBits = 5;  // buckets per power of two: 32
  static constexpr size_t kBuckets = size_t{64 - kSubBits + 1} << kSubBits;
  static size_t bucket(uint64_t ns) {
    if (ns < (uint64_t{1} << kSubBits)) return ns;
    const unsigned shift = static_cast<unsigned>(std::bit_width(ns)) - 1 - kSubBits;
    return (size_t{shift} << kSubBits) + (ns >> shift);
  }
  static uint64_t lower_edge(size_t i) {
    if (i < (size_t{1} << kSubBits)) return i;
    const unsigned shift = static_cast<unsigned>(i >> kSubBits) - 1;
    return (i - (size_t{shift} << kSubBits)) << shift;
  }
  std::array<uint64_t, kBuckets> counts_{};
};

}  // namespace pmfs::bench
