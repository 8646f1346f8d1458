// Stream: whether one thread of a client does most of its faulting, and which. Advice only: pagers that count at the same
// time cost a guess.
#pragma once

#include <atomic>
#include <cstdint>

namespace pmfs::fault {

class Stream {
 public:
  static constexpr uint32_t kHot = 64, kCold = 32, kOther = 8;  // faults; kOther: what another thread's fault takes away
  static constexpr uint32_t kLook = 256;                         // faults between two looks where the thread runs

  void fault(uint32_t tid);
  uint32_t tid() const { return tid_.load(std::memory_order_relaxed); }
  // The thread has faulted long enough to be followed, and it is time to see where it runs.
  bool look();
  bool cold() const { return score_.load(std::memory_order_relaxed) < kCold; }

 private:
  std::atomic<uint32_t> tid_{0}, score_{0}, since_{kLook};
};

// The processor that thread `tid` runs on or ran on last; -1 if it can't be told (gone, or of another pid namespace).
int processor_of(uint32_t tid);

}  // namespace pmfs::fault
