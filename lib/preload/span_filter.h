// Which addresses may be mappings of pmfs: a bit for each GiB of the address space, set when something is mapped there and
// never cleared. So a call about memory elsewhere costs a load of a word that is hardly ever written. Lock-free, and right
// from the first instruction of the process on (all zero, no constructor).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace pmfs::preload {

class SpanFilter {
 public:
  constexpr SpanFilter() = default;
  void add(const void* addr, size_t length) {
    for_each(addr, length, [](std::atomic<uint64_t>& word, uint64_t bit) {
      word.fetch_or(bit, std::memory_order_release);
      return false;
    });
  }
  // False: nothing of pmfs' is there. Bytes beyond user space are nobody's.
  bool may_have(const void* addr, size_t length) const {
    return const_cast<SpanFilter*>(this)->for_each(addr, length, [](std::atomic<uint64_t>& word, uint64_t bit) {
      return (word.load(std::memory_order_acquire) & bit) != 0;
    });
  }

 private:
  static constexpr unsigned kShift = 30;
  static constexpr uint64_t kSpans = uint64_t{1} << (47 - kShift);
  // Until f says true.
  template <class F>
  bool for_each(const void* addr, size_t length, F f) {
    const auto first = reinterpret_cast<uintptr_t>(addr);
    const uint64_t last = length == 0 ? first : first + (length - 1);
    const uint64_t end = last < first ? kSpans : (last >> kShift) + 1;
    for (uint64_t s = first >> kShift; s < end && s < kSpans; ++s)
      if (f(words_[s / 64], uint64_t{1} << s % 64)) return true;
    return false;
  }
  std::atomic<uint64_t> words_[kSpans / 64] = {};
};

}  // namespace pmfs::preload
