// Who comes beside a mount is let in when nothing is believed any more.
#include <catch2/catch.hpp>

#include <atomic>
#include <thread>

#include "pmfs/base/pause.h"
#include "pmfs/base/sys.h"
#include "pmfs/fs/leases.h"

using namespace pmfs;

namespace {

// Each look at the clock takes 10 ms.
class FastClock final : public Sys {
 public:
  FastClock() { set_sys(this); }
  ~FastClock() override { set_sys(nullptr); }
  int64_t monotonic_ns() override { return now_.fetch_add(10'000'000); }
  int64_t now() const { return now_.load(); }
  void skip(int64_t ns) { now_.fetch_add(ns); }

 private:
  std::atomic<int64_t> now_{1'000'000'000};
};

struct Mount final : Leases::Holder {
  std::atomic<int> taken_back{0};
  std::atomic<bool> answering{false}, too_early{false};
  void take_back() override {
    if (answering.load()) too_early.store(true);
    ++taken_back;
  }
};

bool granted(Leases& l) { return static_cast<bool>(Leases::Grant(l)); }

}  // namespace

TEST_CASE("a mount that is alone has leases, and none beside an outsider until it has been gone for a while") {
  FastClock clock;
  Leases l({});
  CHECK_FALSE(granted(l));  // no mount
  Mount m;
  l.add(m);
  CHECK(granted(l));
  {
    const Leases::Outsider a = l.enter();
    CHECK(m.taken_back == 1);
    CHECK_FALSE(granted(l));
    const Leases::Outsider b = l.enter();
    CHECK(m.taken_back == 1);  // there was nothing to take back
  }
  CHECK_FALSE(granted(l));
  clock.skip(Leases::kQuietNs);
  CHECK(granted(l));
  l.remove(m);
  CHECK_FALSE(granted(l));
}

TEST_CASE("of two mounts neither has leases") {
  FastClock clock;
  Leases l({});
  Mount m, n;
  l.add(m);
  CHECK(granted(l));
  l.add(n);
  CHECK(m.taken_back == 1);
  CHECK_FALSE(granted(l));
  l.remove(m);
  CHECK(granted(l));
  l.remove(n);
}

TEST_CASE("an outsider is in when the last lease has run out; not if nobody waits for it") {
  for (const bool wait : {true, false}) {
    FastClock clock;
    const LeaseOptions o{3'000'000'000, wait};
    Leases l(o);
    Mount m;
    l.add(m);
    CHECK(granted(l));
    const int64_t answered = clock.now();
    const Leases::Outsider in = l.enter();
    CHECK((clock.now() >= answered + o.lease_ns) == wait);
    CHECK(m.taken_back == (wait ? 1 : 0));
    l.remove(m);
  }
}

#ifdef PMFS_PAUSE_POINTS
TEST_CASE("an answer that is under way is waited for; not if nobody waits for it") {
  for (const bool wait : {true, false}) {
    FastClock clock;
    Leases l({50'000'000, wait});
    Mount m;
    l.add(m);
    CHECK(granted(l));
    auto answer = std::make_unique<Leases::Grant>(l);
    REQUIRE(*answer);
    m.answering = true;
    std::atomic<bool> in{false};
    pause::Gate closing("leases:closing");
    std::thread client([&] {
      const Leases::Outsider o = l.enter();
      in = true;
      while (m.answering.load()) std::this_thread::yield();
    });
    REQUIRE(closing.wait_arrived());
    CHECK_FALSE(granted(l));
    closing.release();
    if (wait) {
      for (int i = 0; i < 1000; ++i) std::this_thread::yield();  // its chance to do it wrong
      CHECK_FALSE(in.load());
    } else {
      while (!in.load()) std::this_thread::yield();  // it is in, and the answer will be believed
    }
    m.answering = false;
    answer.reset();
    client.join();
    CHECK_FALSE(m.too_early.load());
    CHECK(m.taken_back == (wait ? 1 : 0));
    l.remove(m);
  }
}
#endif
