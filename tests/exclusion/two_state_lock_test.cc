// The two-state lock: sides, ranges, turns, wound/wait.
#include <catch2/catch.hpp>

#include <atomic>
#include <random>

#include "pmfs/exclusion/two_state_lock.h"
#include "tests/exclusion/helpers.h"

using namespace pmfs;
using namespace pmfs::exclusion;

namespace {
constexpr LockSide kAdd = LockSide::kAdd, kBlock = LockSide::kBlock;
}

TEST_CASE("two-state lock: each side is shared, never both are in; blockers share by range") {
  TwoStateLock l(1, "test");
  REQUIRE(l.TryLock(kAdd, from(0)));
  REQUIRE(l.TryLock(kAdd, from(0)));
  CHECK_FALSE(l.TryLock(kBlock, pages(0, 1)));
  l.Unlock(kAdd, from(0));
  CHECK_FALSE(l.TryLock(kBlock, pages(0, 1)));
  l.Unlock(kAdd, from(0));
  REQUIRE(l.TryLock(kBlock, pages(0, 10)));
  CHECK_FALSE(l.TryLock(kBlock, pages(9, 11)));
  REQUIRE(l.TryLock(kBlock, pages(10, 11)));
  CHECK_FALSE(l.TryLock(kAdd, from(0)));
  l.Unlock(kBlock, pages(0, 10));
  CHECK_FALSE(l.TryLock(kAdd, from(0)));
  CHECK(l.TryLock(kBlock, pages(9, 10)));
  l.Unlock(kBlock, pages(9, 10));
  l.Unlock(kBlock, pages(10, 11));
  CHECK(l.TryLock(kAdd, from(0)));
  l.Unlock(kAdd, from(0));
}

TEST_CASE("two-state lock: newcomers stand behind who waits, and the queue goes on in order") {
  TwoStateLock l(1, "test");
  REQUIRE(l.TryLock(kAdd, from(0)));
  std::atomic<bool> blocked{false}, leave{false}, added{false};
  std::thread blocker([&] {
    l.Lock(kBlock, from(0));
    blocked = true;
    eventually([&] { return leave.load(); });
    l.Unlock(kBlock, from(0));
  });
  REQUIRE(eventually([&] { return l.waiters() == 1; }));
  CHECK_FALSE(l.TryLock(kAdd, from(0)));  // though that side is in
  std::thread adder([&] {
    l.Lock(kAdd, from(0));
    added = true;
    l.Unlock(kAdd, from(0));
  });
  REQUIRE(eventually([&] { return l.waiters() == 2; }));
  l.Unlock(kAdd, from(0));
  REQUIRE(eventually([&] { return blocked.load(); }));
  CHECK_FALSE(added);
  leave = true;
  blocker.join();
  adder.join();
  CHECK(added);
  CHECK(l.waiters() == 0);
}

TEST_CASE("two-state lock: threads at random; plain variables are the witnesses") {
  TwoStateLock l(1, "test");
  std::atomic<int> adders{0}, blockers{0};
  std::atomic<uint64_t> wrong{0};
  std::array<uint64_t, 8> count{};  // not atomic: of who blocks its range
  std::array<std::atomic<uint64_t>, 8> expected{};
  Threads threads;
  for (uint64_t n = 0; n < 4; ++n) {
    threads.run([&, n] {
      std::mt19937_64 rng(n);
      for (int i = 0; i < 5000; ++i) {
        const uint64_t a = rng() % 8, b = a + 1 + rng() % (8 - a);
        const bool add = rng() % 2;
        if (rng() % 4 == 0) {
          if (!l.TryLock(add ? kAdd : kBlock, pages(a, b))) continue;
        } else {
          l.Lock(add ? kAdd : kBlock, pages(a, b));
        }
        if (add) {
          ++adders;
          if (blockers != 0) ++wrong;
          --adders;
        } else {
          ++blockers;
          if (adders != 0) ++wrong;
          for (uint64_t p = a; p < b; ++p) ++count[p], ++expected[p];
          --blockers;
        }
        l.Unlock(add ? kAdd : kBlock, pages(a, b));
      }
    });
  }
  threads.join();
  CHECK(wrong == 0);
  for (size_t p = 0; p < 8; ++p) CHECK(count[p] == expected[p]);
  CHECK(l.waiters() == 0);
}

TEST_CASE("wound/wait: the older waits, the younger gives way wherever it waits") {
  TwoStateLock a(1, "a"), b(2, "b");
  WoundTicket older, younger;
  older.start();
  REQUIRE(a.Lock(kBlock, from(0), &older));
  std::atomic<int> got_a{-1};
  std::thread second([&] {
    younger.start();
    if (!b.Lock(kBlock, from(0), &younger)) std::abort();
    got_a = a.Lock(kAdd, from(0), &younger);  // waits, until the older one wants b
    b.Unlock(kBlock, from(0), &younger);
  });
  REQUIRE(eventually([&] { return a.waiters() == 1; }));
  CHECK(b.Lock(kAdd, from(0), &older));
  second.join();
  CHECK(got_a == 0);
  CHECK(younger.times_wounded() == 1);
  CHECK(older.times_wounded() == 0);
  b.Unlock(kAdd, from(0), &older);
  a.Unlock(kBlock, from(0), &older);
  CHECK(a.waiters() + b.waiters() == 0);
}

TEST_CASE("wound/wait: one that is wounded while it runs finds out when it has to wait, not before") {
  TwoStateLock a(1, "a"), b(2, "b"), c(3, "c");
  WoundTicket older, younger;
  younger.start();
  REQUIRE(a.Lock(kBlock, from(0), &younger));
  std::thread first([&] {
    older.start();
    if (!a.Lock(kBlock, from(0), &older)) std::abort();  // wounds, and waits
    a.Unlock(kBlock, from(0), &older);
  });
  REQUIRE(eventually([&] { return a.waiters() == 1; }));
  REQUIRE(b.Lock(kBlock, from(0), &younger));  // free: no need to wait
  REQUIRE(c.TryLock(kBlock, from(0)));
  CHECK_FALSE(c.Lock(kAdd, from(0), &younger));
  c.Unlock(kBlock, from(0));
  b.Unlock(kBlock, from(0), &younger);
  a.Unlock(kBlock, from(0), &younger);
  first.join();
}

TEST_CASE("wound/wait: a younger one that was granted from the queue ahead of an older one gives way too") {
  TwoStateLock a(1, "a");
  WoundTicket older, younger;
  REQUIRE(a.TryLock(kBlock, from(0)));
  std::atomic<int> result{-1};
  std::thread second([&] {
    younger.start();
    result = a.Lock(kBlock, from(0), &younger);
  });
  REQUIRE(eventually([&] { return a.waiters() == 1; }));
  std::thread first([&] {
    older.start();
    if (!a.Lock(kBlock, from(0), &older)) std::abort();
    a.Unlock(kBlock, from(0), &older);
  });
  REQUIRE(eventually([&] { return a.waiters() == 2; }));
  a.Unlock(kBlock, from(0));
  first.join();
  second.join();
  CHECK(result == 0);
  CHECK(a.waiters() == 0);
}
