// Counters and a latency histogram that many threads bump with relaxed atomics.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

namespace pmfs {

class Counter {
 public:
  void add(uint64_t n = 1) { v_.fetch_add(n, std::memory_order_relaxed); }
  void sub(uint64_t n = 1) { v_.fetch_sub(n, std::memory_order_relaxed); }
  uint64_t get() const { return v_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> v_{0};
};

// Buckets of 1/8 of a power of two: quantiles are within 12.5 % of the truth.
class Histogram {
 public:
  void record(int64_t ns) { buckets_[index(ns > 0 ? static_cast<uint64_t>(ns) : 0)].fetch_add(1, std::memory_order_relaxed); }
  uint64_t quantile(double q) const {
    uint64_t total = 0;
    for (auto& b : buckets_) total += b.load(std::memory_order_relaxed);
    if (total == 0) return 0;
    uint64_t want = static_cast<uint64_t>(q * static_cast<double>(total - 1)) + 1, seen = 0;
    for (size_t i = 0; i < buckets_.size(); ++i)
      if ((seen += buckets_[i].load(std::memory_order_relaxed)) >= want) return upper(i);
    return upper(buckets_.size() - 1);
  }

 private:
  static constexpr unsigned kSub = 3;  // bits
  static size_t index(uint64_t v) {
    if (v < (1u << kSub)) return v;
    unsigned msb = 63u - static_cast<unsigned>(std::countl_zero(v));
    return ((msb - kSub + 1) << kSub) + ((v >> (msb - kSub)) & ((1u << kSub) - 1));
  }
  static uint64_t upper(size_t i) {
    if (i < (1u << kSub)) return i;
    unsigned shift = static_cast<unsigned>(i >> kSub) - 1;
    return (((1ull << kSub) + (i & ((1u << kSub) - 1)) + 1) << shift) - 1;
  }
  std::array<std::atomic<uint64_t>, (64 - kSub + 1) << kSub> buckets_{};
};

}  // namespace pmfs
