#include "pmfs/base/pause.h"

#include <ctime>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

namespace pmfs::pause {

std::atomic<uint32_t> g_jitter{0};

namespace {

// Seeded from the address of the thread's own state: threads differ, and no shared generator orders them.
uint32_t next_random() {
  thread_local uint64_t state = 0;
  if (state == 0) state = reinterpret_cast<uintptr_t>(&state) * 0x9e3779b97f4a7c15u | 1;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return static_cast<uint32_t>(state >> 32);
}

}  // namespace

void jitter() {
  uint32_t one_in = g_jitter.load(std::memory_order_relaxed);
  if (one_in == 0 || next_random() % one_in != 0) return;
  // Mostly a moment; where much of it is wanted, now and then long enough for another process to have done something.
  const bool is_long = one_in >= 8 && one_in < 32 && next_random() % 16 == 0;
  timespec t{0, static_cast<long>(next_random() % (is_long ? 2'000'000 : 50'000))};
  nanosleep(&t, nullptr);
}

#ifdef PMFS_PAUSE_POINTS

// All gates hang in one registry under one mutex: gates exist only in tests, a few at a time. The plain std
// types are used so that a pause inside a lock is invisible to the order checker.
struct Gate::Impl {
  std::string point;
  unsigned skip = 0;
  bool caught = false;    // has its thread: later arrivals pass
  bool stopped = false;   // that thread is inside stop()
  bool released = false;

  static inline std::mutex mutex;
  static inline std::condition_variable changed;
  static inline std::vector<Impl*> gates;
  static inline std::atomic<unsigned> count{0};  // lets arrive() cost one load when no test is at work

  // In order of creation; a gate that skips an arrival offers it to the next.
  static Impl* catcher(const char* point) {
    for (Impl* g : gates) {
      if (g->caught || g->released || g->point != point) continue;
      if (g->skip == 0) return g;
      --g->skip;
    }
    return nullptr;
  }
};

void arrive(const char* point) {
  using I = Gate::Impl;
  if (I::count.load() == 0) return;
  std::unique_lock l(I::mutex);
  I* g = I::catcher(point);
  if (!g) return;
  g->caught = g->stopped = true;
  I::changed.notify_all();
  I::changed.wait(l, [g] { return g->released; });
  g->stopped = false;
  I::changed.notify_all();
}

Gate::Gate(const char* point, unsigned skip) : impl_(new Impl{point, skip}) {
  std::lock_guard l(Impl::mutex);
  Impl::gates.push_back(impl_);
  ++Impl::count;
}

Gate::~Gate() {
  {
    std::unique_lock l(Impl::mutex);
    impl_->released = true;
    Impl::changed.notify_all();
    Impl::changed.wait(l, [this] { return !impl_->stopped; });  // it still reads *impl_
    std::erase(Impl::gates, impl_);
    --Impl::count;
  }
  delete impl_;
}

bool Gate::wait_arrived(std::chrono::milliseconds bound) {
  std::unique_lock l(Impl::mutex);
  return Impl::changed.wait_for(l, bound, [this] { return impl_->caught; });
}

bool Gate::arrived() const {
  std::lock_guard l(Impl::mutex);
  return impl_->caught;
}

void Gate::release() {
  std::lock_guard l(Impl::mutex);
  impl_->released = true;
  Impl::changed.notify_all();
}

#endif  // PMFS_PAUSE_POINTS

}  // namespace pmfs::pause
