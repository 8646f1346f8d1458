#include "pmfs/fs/refill.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pmfs/base/error.h"

namespace pmfs {

namespace {
constexpr size_t kMaxQueue = 1 << 16;      // beyond it a block is zeroed when it is used
// While blocks are being freed the thread looks by itself, so that no invalidate pays for waking it.
constexpr std::chrono::milliseconds kLook{5};
constexpr unsigned kIdleLooks = 20;
constexpr uint64_t kChunk = kHugeBlocks;   // reserved at a time: what an allocation may miss meanwhile
}  // namespace

Refill::Refill(Region& region, meta::Store& store, bool enabled) : region_(region), store_(store) {
  if (enabled) thread_ = std::thread([this] { run(); });
}

Refill::~Refill() {
  stop_.store(true);
  {
    MutexLock l(mutex_);
    wake_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

void Refill::add(Extent e) {
  if (!thread_.joinable()) return;
  bool wake;
  {
    MutexLock l(mutex_);
    if (queue_.size() >= kMaxQueue) return;
    queue_.push_back(e);
    wake = std::exchange(asleep_, false);
  }
  if (wake) wake_.Signal();
}

bool Refill::next(Extent* e) {
  MutexLock l(mutex_);
  for (unsigned idle = 0; queue_.empty() && !stop_.load(); ++idle) {
    if (idle < kIdleLooks) {
      wake_.WaitFor(mutex_, kLook);
    } else {
      asleep_ = true;
      wake_.Wait(mutex_);
    }
  }
  asleep_ = false;
  if (stop_.load()) return false;
  *e = queue_.front();
  queue_.pop_front();
  return true;
}

void Refill::quiesce() {
  MutexLock l(mutex_);
  queue_.clear();  // when space is short nothing is reserved ahead
  pause_ = true;
  while (busy_) idle_.Wait(mutex_);
}

void Refill::run() {
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), 10);
  // What was free at mount first, then what is freed.
  for (Pfn from(0); !stop_.load();) {
    auto free = store_.free_extents(from, 64);
    if (free.empty()) break;
    for (Extent e : free) refill(e);
    from = free.back().end();
  }
  Extent e;
  while (next(&e)) refill(e);
}

void Refill::refill(Extent e) {
  for (Pfn p = e.first; p < e.end() && !stop_.load();) {
    uint64_t n = 1;
    if (!region_.wants_refill(p)) {
      ++p;
      continue;
    }
    while (n < kChunk && p + n < e.end() && region_.wants_refill(p + n)) ++n;
    Extent chunk{p, n};
    {
      MutexLock l(mutex_);
      if (pause_) {
        pause_ = false;
        return;
      }
      busy_ = true;
    }
    if (store_.reserve_at(chunk)) {  // ours for a moment: nobody is given a block that is being zeroed
      try {
        region_.make_zero(chunk);
      } catch (const Error&) {  // the tmpfs is full: whoever needs the block will be told
      }
      store_.unreserve(chunk);
    }
    {
      MutexLock l(mutex_);
      busy_ = false;
      idle_.SignalAll();
    }
    p += n;
  }
}

}  // namespace pmfs
