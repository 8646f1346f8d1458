#include "pmfs/server/workers.h"

#include <algorithm>

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/lock_order.h"
#include "pmfs/base/sys.h"

namespace pmfs::server {

using namespace proto;

namespace {
constexpr uint64_t kStopId = 0;
constexpr int64_t kMaxSpinNs = 50'000, kMinSpinNs = 5'000;
constexpr int64_t kTurnNs = 1'000'000;  // then it is the next client's turn, though this one has more
}  // namespace

Workers::Workers(Dispatcher& dispatcher, unsigned threads)
    : dispatcher_(dispatcher),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      stop_event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!epoll_ || !stop_event_) fail(errno, "workers: can't create an epoll set");
  epoll_event e{EPOLLIN, {.u64 = kStopId}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, stop_event_.get(), &e);
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

Workers::~Workers() { stop(); }

void Workers::stop() {
  stop_.store(true);
  uint64_t one = 1;
  if (::write(stop_event_.get(), &one, sizeof one) < 0) {
  }  // level-triggered and never read: every worker sees it
  for (auto& t : threads_) t.join();
  threads_.clear();
}

void Workers::add(std::shared_ptr<Session> s) {
  int fd = s->doorbell();
  uint64_t id = s->id;
  {
    WriterLock l(mutex_);
    sessions_.emplace(id, std::move(s));
  }
  epoll_event e{EPOLLIN | EPOLLET, {.u64 = id}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &e) != 0) fail(errno, "workers: can't watch a doorbell");
}

void Workers::remove(const Session& s) {
  if (s.doorbell() >= 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, s.doorbell(), nullptr);
  std::shared_ptr<Session> gone;  // released after the lock
  WriterLock l(mutex_);
  auto it = sessions_.find(s.id);
  if (it == sessions_.end()) return;
  gone = std::move(it->second);
  sessions_.erase(it);
}

void Workers::run() {
  while (!stop_.load()) {
    lock_order::assert_none_held("worker");
    epoll_event e;
    int n = ::epoll_wait(epoll_.get(), &e, 1, -1);
    if (n <= 0 || e.data.u64 == kStopId) continue;
    std::shared_ptr<Session> s;
    {
      ReaderLock l(mutex_);
      auto it = sessions_.find(e.data.u64);
      if (it != sessions_.end()) s = it->second;
    }
    if (s) serve(*s);
  }
}

// The doorbell's count is never read: each write is an edge of its own.
void Workers::serve(Session& s) {
  RingHeader& h = s.ring().header();
  const int64_t turn_end = sys().monotonic_ns() + kTurnNs;
  if (sys().monotonic_ns() - s.last_reply_ns.load(std::memory_order_relaxed) < kMaxSpinNs)
    s.spin_ns.store(kMaxSpinNs, std::memory_order_relaxed);
  while (!s.ended() && !stop_.load(std::memory_order_relaxed)) {
    h.manager_sleeps.store(0);
    execute_pending(s, turn_end);
    if (sys().monotonic_ns() >= turn_end) return s.ring_bell();  // behind those who wait
    int64_t budget = s.spin_ns.load(std::memory_order_relaxed);
    if (budget >= kMinSpinNs && spinning_.fetch_add(1) == 0) {
      int64_t until = sys().monotonic_ns() + budget;
      bool found = false;
      while (!found && sys().monotonic_ns() < until && !s.ended()) {
        for (int k = 0; k < 16 && !found; ++k) {  // a pause takes tens of nanoseconds: a request waits for one of them
          __builtin_ia32_pause();
          found = execute_pending(s, turn_end);
        }
      }
      if (!found) s.spin_ns.store(budget / 2, std::memory_order_relaxed);
      spinning_.fetch_sub(1);
      if (found) continue;
    } else if (budget >= kMinSpinNs) {
      spinning_.fetch_sub(1);
    }
    // Whoever publishes after this store rings; whoever did before is seen by the look that follows.
    h.manager_sleeps.store(1);
    if (!execute_pending(s, turn_end)) return;
  }
}

bool Workers::execute_pending(Session& s, int64_t until_ns) {
  if (s.agent_acks() && s.direct()) dispatcher_.answered();
  RingHeader& h = s.ring().header();
  bool any = false;
  const uint32_t first = s.next_slot.load(std::memory_order_relaxed);
  for (uint32_t k = 0; k < kSlots; ++k) {
    const uint32_t i = (first + k) % kSlots;
    std::atomic<uint32_t>& state = s.ring().slot(i).state;
    uint32_t v = state.load();
    if ((v & ~kWaitingBit) != kPending) continue;
    if (!state.compare_exchange_strong(v, kRunning | (v & kWaitingBit)) &&
        ((v & ~kWaitingBit) != kPending || !state.compare_exchange_strong(v, kRunning | (v & kWaitingBit))))
      continue;  // another worker's, or a client that plays with its words
    h.manager_sleeps.store(1);
    const bool answered = dispatcher_.execute(s, i);
    const int64_t now = sys().monotonic_ns();
    s.next_slot.store(i + 1, std::memory_order_relaxed);
    if (answered) s.answer(i);
    dispatcher_.settle();
    h.manager_sleeps.store(0);
    any = true;
    if (now >= until_ns) break;
  }
  return any;
}

}  // namespace pmfs::server
