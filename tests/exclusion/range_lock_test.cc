#include <catch2/catch.hpp>

#include <atomic>
#include <random>

#include "pmfs/base/pause.h"
#include "tests/exclusion/helpers.h"

using namespace pmfs;
using namespace pmfs::exclusion;

namespace {

constexpr RangeMode kS = RangeMode::kShared, kX = RangeMode::kExclusive;

// A thread that takes one range lock and keeps it until told to let go.
class Holder {
 public:
  Holder(RangeLock& lock, PageRange r, RangeMode m, CancelToken* cancel = nullptr)
      : thread_([this, &lock, r, m, cancel] {
          RangeLock::Ticket t = lock.Lock(r, m, cancel);
          state_ = t ? 1 : 2;
          if (!t) return;
          eventually([this] { return leave_.load(); });
          lock.Unlock(t);
        }) {}
  ~Holder() { let_go(); }
  bool granted() const { return state_ == 1; }
  bool gave_up() const { return state_ == 2; }
  void let_go() {
    leave_ = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::atomic<int> state_{0};
  std::atomic<bool> leave_{false};
  std::thread thread_;
};

}  // namespace

TEST_CASE("disjoint ranges don't conflict; overlapping ones do unless both are shared") {
  RangeLock l(1);
  RangeLock::Ticket a = l.TryLock(pages(0, 10), kX);
  REQUIRE(a);
  RangeLock::Ticket b = l.TryLock(pages(10, 20), kX);
  REQUIRE(b);
  CHECK_FALSE(l.TryLock(pages(9, 11), kX));
  CHECK_FALSE(l.TryLock(pages(9, 10), kS));
  RangeLock::Ticket c = l.TryLock(pages(20, 30), kS), d = l.TryLock(pages(25, 40), kS);
  CHECK(c);
  CHECK(d);
  CHECK_FALSE(l.TryLock(from(29), kX));
  for (RangeLock::Ticket t : {a, b, c, d}) l.Unlock(t);
  RangeLock::Ticket all = l.TryLock(from(0), kX);
  REQUIRE(all);
  l.Unlock(all);
  CHECK(l.waiters() == 0);
}

TEST_CASE("an empty range disputes nothing") {
  RangeLock l(1);
  RangeLock::Ticket a = l.TryLock(from(0), kX), b = l.TryLock(pages(5, 5), kX);
  REQUIRE(b);
  l.Unlock(a);
  l.Unlock(b);
}

TEST_CASE("HeldExclusive: one exclusive holder that covers the whole range") {
  RangeLock l(1);
  RangeLock::Ticket a = l.TryLock(pages(0, 10), kX), s = l.TryLock(pages(10, 20), kS);
  CHECK(l.HeldExclusive(pages(2, 8)));
  CHECK(l.HeldExclusive(pages(0, 10)));
  CHECK_FALSE(l.HeldExclusive(pages(0, 11)));
  CHECK_FALSE(l.HeldExclusive(pages(12, 13)));
  l.Unlock(a);
  l.Unlock(s);
}

TEST_CASE("a waiter is granted when the last conflicting holder leaves") {
  RangeLock l(1);
  RangeLock::Ticket a = l.TryLock(pages(0, 10), kS), b = l.TryLock(pages(5, 15), kS);
  Holder x(l, pages(8, 9), kX);
  CHECK(eventually([&] { return l.waiters() == 1; }));
  l.Unlock(a);
  CHECK(l.waiters() == 1);
  l.Unlock(b);
  CHECK(eventually([&] { return x.granted(); }));
}

TEST_CASE("first come, first served: a reader doesn't overtake a waiting writer, nor a writer a waiting reader") {
  RangeLock l(1);
  Holder reader(l, pages(0, 100), kS);
  CHECK(eventually([&] { return reader.granted(); }));
  Holder writer(l, pages(50, 60), kX);
  CHECK(eventually([&] { return l.waiters() == 1; }));
  CHECK_FALSE(l.TryLock(pages(55, 56), kS));  // compatible with the holder, but the writer was first
  Holder late(l, pages(55, 200), kS);
  CHECK(eventually([&] { return l.waiters() == 2; }));
  CHECK_FALSE(l.TryLock(pages(150, 151), kX));  // only disputed by a waiter
  RangeLock::Ticket beside = l.TryLock(pages(0, 10), kS);
  REQUIRE(beside);  // no conflict with anybody earlier
  l.Unlock(beside);
  reader.let_go();
  CHECK(eventually([&] { return writer.granted(); }));
  CHECK_FALSE(late.granted());
  writer.let_go();
  CHECK(eventually([&] { return late.granted(); }));
}

TEST_CASE("cancelling a waiter makes it give up, and those behind it are looked at again") {
  RangeLock l(1);
  Holder reader(l, pages(0, 10), kS);
  CHECK(eventually([&] { return reader.granted(); }));
  CancelToken token;
  Holder writer(l, pages(0, 10), kX, &token);
  CHECK(eventually([&] { return l.waiters() == 1; }));
  Holder late(l, pages(5, 6), kS);
  CHECK(eventually([&] { return l.waiters() == 2; }));
  token.cancel();
  CHECK(eventually([&] { return writer.gave_up(); }));
  CHECK(eventually([&] { return late.granted(); }));
  CHECK(l.waiters() == 0);
}

TEST_CASE("a cancelled token: the next Lock gives up at once; cancelling twice, or a holder, changes nothing") {
  RangeLock l(1);
  CancelToken token;
  RangeLock::Ticket t = l.Lock(pages(0, 1), kX, &token);
  REQUIRE(t);
  token.cancel();
  token.cancel();
  CHECK(l.HeldExclusive(pages(0, 1)));
  l.Unlock(t);
  CHECK(l.Lock(pages(0, 1), kX, &token) == nullptr);
  CHECK(l.waiters() == 0);
}

#ifdef PMFS_PAUSE_POINTS
TEST_CASE("a cancel between the decision to wait and the queue is not missed") {
  RangeLock l(1);
  RangeLock::Ticket t = l.TryLock(pages(0, 10), kX);
  CancelToken token;
  pause::Gate gate("range_lock:before_queue");
  Holder waiter(l, pages(0, 10), kX, &token);
  REQUIRE(gate.wait_arrived());
  token.cancel();
  gate.release();
  CHECK(eventually([&] { return waiter.gave_up(); }));
  l.Unlock(t);
}
#endif

TEST_CASE("range locks at random: overlapping exclusive holders never meet, cancels included") {
  RangeLock l(1);
  constexpr uint64_t kPages = 32;
  std::array<uint64_t, kPages> count{};  // plain: the thread sanitizer watches
  std::atomic<uint64_t> touched{0}, cancelled{0};
  std::array<std::atomic<CancelToken*>, 4> tokens{};
  std::atomic<int> running{4};
  Threads threads;
  for (unsigned n = 0; n < 4; ++n) {
    threads.run([&, n] {
      std::mt19937_64 rng(n);
      uint64_t mine = 0;
      for (int i = 0; i < 1500; ++i) {
        const uint64_t a = rng() % kPages;
        const PageRange r = pages(a, std::min(kPages, a + 1 + rng() % 8));
        const bool write = rng() % 2;
        CancelToken token;
        tokens[n] = &token;
        RangeLock::Ticket t = l.Lock(r, write ? kX : kS, &token);
        while (tokens[n].exchange(nullptr) == nullptr) std::this_thread::yield();  // the canceller is done with it
        if (!t) {
          ++cancelled;
          continue;
        }
        for (uint64_t p = r.first.v; p < r.end.v; ++p) {
          if (write) {
            ++count[p];
            ++mine;
          } else if (count[p] > 1u << 30) {
            std::abort();
          }
        }
        l.Unlock(t);
      }
      touched += mine;
      --running;
    });
  }
  threads.run([&] {
    for (unsigned n = 0; running > 0; n = (n + 1) % 4) {
      if (CancelToken* token = tokens[n].exchange(nullptr)) {
        token->cancel();
        tokens[n] = token;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  });
  threads.join();
  uint64_t sum = 0;
  for (uint64_t c : count) sum += c;
  CHECK(sum == touched);
  CHECK(l.waiters() == 0);
  INFO("cancelled: " << cancelled);
}
