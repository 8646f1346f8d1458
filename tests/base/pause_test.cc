#include <catch2/catch.hpp>

#include <atomic>
#include <thread>

#include "pmfs/base/pause.h"

using namespace pmfs;

TEST_CASE("jitter: a point with the flag set sleeps now and then, and returns") {
  pause::g_jitter = 2;
  for (int i = 0; i < 100; ++i) PMFS_PAUSE_POINT("test:jitter");
  pause::g_jitter = 0;
  pause::jitter();  // off: returns at once
}

#ifdef PMFS_PAUSE_POINTS

TEST_CASE("a gate stops the thread that arrives until it is released") {
  pause::Gate gate("test:point");
  std::atomic<int> steps{0};
  std::thread t([&] {
    ++steps;
    PMFS_PAUSE_POINT("test:point");
    ++steps;
  });
  REQUIRE(gate.wait_arrived());
  CHECK(steps == 1);
  gate.release();
  t.join();
  CHECK(steps == 2);
}

TEST_CASE("a gate catches one thread; other points and later threads pass") {
  pause::Gate gate("test:point");
  PMFS_PAUSE_POINT("test:other");
  CHECK_FALSE(gate.arrived());
  std::thread t([] { PMFS_PAUSE_POINT("test:point"); });
  REQUIRE(gate.wait_arrived());
  PMFS_PAUSE_POINT("test:point");  // would hang here
  gate.release();
  t.join();
}

TEST_CASE("skip lets that many arrivals pass") {
  pause::Gate gate("test:point", 2);
  PMFS_PAUSE_POINT("test:point");
  PMFS_PAUSE_POINT("test:point");
  CHECK_FALSE(gate.arrived());
  std::thread t([] { PMFS_PAUSE_POINT("test:point"); });
  CHECK(gate.wait_arrived());
  gate.release();
  t.join();
}

TEST_CASE("destruction releases, and waits until the thread has let go of the gate") {
  std::atomic<bool> passed{false};
  std::thread t;
  {
    pause::Gate gate("test:point");
    t = std::thread([&] {
      PMFS_PAUSE_POINT("test:point");
      passed = true;
    });
    REQUIRE(gate.wait_arrived());
    CHECK_FALSE(passed);
  }
  t.join();
  CHECK(passed);
}

TEST_CASE("two gates on a point catch two threads, in order of creation") {
  pause::Gate first("test:point"), second("test:point");
  std::thread a([] { PMFS_PAUSE_POINT("test:point"); });
  REQUIRE(first.wait_arrived());
  CHECK_FALSE(second.arrived());
  std::thread b([] { PMFS_PAUSE_POINT("test:point"); });
  REQUIRE(second.wait_arrived());
  second.release();
  b.join();
  first.release();
  a.join();
}

TEST_CASE("a gate that was released before anybody came stops nobody") {
  pause::Gate gate("test:point");
  gate.release();
  PMFS_PAUSE_POINT("test:point");
  CHECK_FALSE(gate.wait_arrived(std::chrono::milliseconds(1)));
}

#endif  // PMFS_PAUSE_POINTS
