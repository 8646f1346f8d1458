// Small helpers of the waiting code.
#pragma once

#include <time.h>

#include <atomic>
#include <bit>
#include <cstdint>

namespace pmfs {

inline void cpu_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

inline int64_t monotonic_ns() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * int64_t{1'000'000'000} + ts.tv_nsec;
}

// The futex word of a 64-bit counter: a futex is 32 bits wide.
static_assert(std::endian::native == std::endian::little);
inline std::atomic<uint32_t>* low_half(std::atomic<uint64_t>* word) {
  return reinterpret_cast<std::atomic<uint32_t>*>(word);
}

}  // namespace pmfs
