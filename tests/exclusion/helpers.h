// What the exclusion tests share. Catch's macros are for the main thread only; other threads leave results behind.
#pragma once

#include <chrono>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "pmfs/exclusion/scheme.h"

namespace pmfs::exclusion {

// Waits for a state another thread is on its way to. The bound is for a hang; no test decides by it.
template <class F>
bool eventually(F&& state) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!state()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return true;
}

class Threads {
 public:
  ~Threads() { join(); }
  template <class F>
  void run(F&& f) {
    threads_.emplace_back(std::forward<F>(f));
  }
  void join() {
    for (std::thread& t : threads_) t.join();
    threads_.clear();
  }

 private:
  std::vector<std::thread> threads_;
};

inline PageRange pages(uint64_t first, uint64_t end) { return {Pgoff(first), Pgoff(end)}; }
inline PageRange from(uint64_t first) { return {Pgoff(first), kEndOfFile}; }

// Puts an entry there, as a fault would.
inline void put(LockEntryTree& t, uint64_t page, uint64_t pfn, unsigned order = 0, uint64_t flags = 0) {
  LockedEntry e = t.lock(Pgoff(page), order, Wait::kBlock);
  t.unlock(e, Entry::make(Pfn(pfn), order, flags));
}

}  // namespace pmfs::exclusion
