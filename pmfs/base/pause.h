// Named pause points: a debug build's sync points, by which tests force an interleaving.
//
//   fault side: PMFS_PAUSE_POINT("fault:before_install");
//   test side:  pause::Gate g("fault:before_install");   // the next thread to arrive stops there
//               g.wait_arrived();  ... run the other operation ...  g.release();
//
// In a release build a point costs one relaxed load of a flag that only the torture tool's --jitter sets.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace pmfs::pause {

extern std::atomic<uint32_t> g_jitter;  // 0: off; n: at a point, one thread in n sleeps up to 50 us, or 2 ms if n is 8 to 31
void jitter();

#ifdef PMFS_PAUSE_POINTS
void arrive(const char* point);
inline constexpr bool kEnabled = true;

// Stops the next thread (after letting `skip` of them pass) that reaches `point`, until release() or destruction.
// Several gates on one point are offered an arrival in order of their creation.
class Gate {
 public:
  explicit Gate(const char* point, unsigned skip = 0);
  ~Gate();
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  // False if nobody arrived within the bound (a bound on a hang, never the thing a test decides by).
  bool wait_arrived(std::chrono::milliseconds bound = std::chrono::seconds(20));
  bool arrived() const;
  void release();

 private:
  friend void arrive(const char* point);
  struct Impl;
  Impl* impl_;
};
#else
inline constexpr bool kEnabled = false;
inline void arrive(const char*) {}
#endif

}  // namespace pmfs::pause

#define PMFS_PAUSE_POINT(name)                                                              \
  do {                                                                                      \
    if (__builtin_expect(::pmfs::pause::g_jitter.load(std::memory_order_relaxed) != 0, 0)) \
      ::pmfs::pause::jitter();                                                              \
    ::pmfs::pause::arrive(name);                                                            \
  } while (0)
