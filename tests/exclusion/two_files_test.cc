// Interleavings 15, 16 and 21 at the level of the schemes: two files at once, in orders that user space chooses.
// PMFS_TWO_FILES_ATTEMPTS: attempts per scheme of the long run (default: some thousands).
#include <catch2/catch.hpp>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <random>

#include "pmfs/base/pause.h"
#include "pmfs/exclusion/two_files.h"
#include "tests/exclusion/helpers.h"

using namespace pmfs;
using namespace pmfs::exclusion;

namespace {

FileSide side(SchemeInode& i, uint64_t ino, LockSide s, PageRange r) {
  return {i.scheme.get(), &i.tree, ino, s, r};
}

uint64_t attempts() {
  const char* text = std::getenv("PMFS_TWO_FILES_ATTEMPTS");
  return text ? std::strtoull(text, nullptr, 10) : 2000;
}

}  // namespace

TEST_CASE("two files: write(A from memory of B) against write(B from memory of A), both in their second half") {
  for (const SchemeInfo& s : schemes()) {
    if (!s.sound) continue;
    INFO(s.name);
    SchemeInode a(s, 1), b(s, 2);
    std::atomic<int> inside{0};
    std::atomic<uint64_t> done{0}, overlapping{0};
    auto run = [&](bool swap, uint64_t n) {
      for (uint64_t i = 0; i < n; ++i) {
        SchemeInode &to = swap ? b : a, &of = swap ? a : b;
        TwoFiles two(side(to, swap ? 2 : 1, LockSide::kBlock, pages(0, 10)),
                     side(of, swap ? 1 : 2, LockSide::kAdd, pages(5, 6)));
        if (two.enter(Wait::kBlock) != 0) std::abort();
        if (inside.fetch_add(1) != 0) ++overlapping;  // each reads what the other replaces
        inside.fetch_sub(1);
        two.leave();
        ++done;
      }
    };
    const uint64_t n = attempts();
    Threads threads;
    threads.run([&] { run(false, n); });
    threads.run([&] { run(true, n); });
    threads.join();
    CHECK(done == 2 * n);
    CHECK(overlapping == 0);
    CHECK(a.waiters() + b.waiters() == 0);
  }
}

// Punches and faults on both files, copies in every direction and with every pair of sides.
TEST_CASE("two files: operations on two files among operations on one: all end") {
  for (const SchemeInfo& s : schemes()) {
    if (!s.sound) continue;
    INFO(s.name);
    SchemeInode i[2] = {SchemeInode(s, 1), SchemeInode(s, 2)};
    const uint64_t n = attempts() / 2;
    std::atomic<uint64_t> done{0}, refused{0}, retries{0};
    Threads threads;
    for (uint64_t t = 0; t < 3; ++t) {
      threads.run([&, t] {
        std::mt19937_64 rng(t);
        for (uint64_t k = 0; k < n; ++k, ++done) {
          const uint64_t x = rng() % 2, p = rng() % 8, q = rng() % 8;
          const LockSide sx = rng() % 2 ? LockSide::kAdd : LockSide::kBlock;
          const LockSide sy = rng() % 2 ? LockSide::kAdd : LockSide::kBlock;
          TwoFiles two(side(i[x], x + 1, sx, pages(p, p + 3)), side(i[1 - x], 2 - x, sy, pages(q, q + 3)));
          const int err = two.enter(rng() % 4 ? Wait::kBlock : Wait::kNoWait);
          if (err != 0 && err != EAGAIN) std::abort();
          refused += err == EAGAIN;
          retries += two.retries();
        }
      });
    }
    threads.run([&] {
      std::mt19937_64 rng(9);
      for (uint64_t k = 0; k < n; ++k) {
        SchemeInode& one = i[rng() % 2];
        InvalidateTicket t;
        if (!one.scheme->enter_invalidate(pages(4, 6), Wait::kBlock, nullptr, &t)) std::abort();
        one.scheme->leave_invalidate(&t);
        Fault f(one, rng() % 8);
        f.begin();
        f.end(Entry{});
      }
    });
    threads.join();
    CHECK(done == 3 * n);
    CHECK(i[0].waiters() + i[1].waiters() == 0);
    UNSCOPED_INFO(s.name << ": refused " << refused << ", retried " << retries);
    for (SchemeInode& one : i) {
      InvalidateTicket t;
      REQUIRE(one.scheme->enter_invalidate(from(0), Wait::kNoWait, nullptr, &t));  // nothing is left behind
      one.scheme->leave_invalidate(&t);
    }
  }
}

TEST_CASE("two files: one file on both sides is EDEADLK, with nothing held (interleaving 16)") {
  for (const SchemeInfo& s : schemes()) {
    if (!s.sound) continue;
    INFO(s.name);
    SchemeInode a(s, 1);
    for (Wait wait : {Wait::kBlock, Wait::kNoWait}) {
      TwoFiles two(side(a, 1, LockSide::kBlock, pages(0, 10)), side(a, 1, LockSide::kAdd, pages(5, 6)));
      CHECK(two.enter(wait) == EDEADLK);
      InvalidateTicket t;
      REQUIRE(a.scheme->enter_invalidate(from(0), Wait::kNoWait, nullptr, &t));
      a.scheme->leave_invalidate(&t);
    }
  }
}

TEST_CASE("two files: no-wait is EAGAIN behind either file, and leaves the other alone (interleaving 21)") {
  for (const SchemeInfo& s : schemes()) {
    if (!s.sound) continue;
    INFO(s.name);
    SchemeInode i[2] = {SchemeInode(s, 1), SchemeInode(s, 2)};
    for (SchemeInode& busy : i) {
      InvalidateTicket t, other;
      SchemeInode& free = &busy == &i[0] ? i[1] : i[0];
      REQUIRE(busy.scheme->enter_invalidate(pages(0, 10), Wait::kBlock, nullptr, &t));
      for (LockSide first : {LockSide::kAdd, LockSide::kBlock}) {
        const LockSide second = first == LockSide::kAdd ? LockSide::kBlock : LockSide::kAdd;
        TwoFiles two(side(i[0], 1, first, pages(5, 6)), side(i[1], 2, second, pages(5, 6)));
        CHECK(two.enter(Wait::kNoWait) == EAGAIN);
        REQUIRE(free.scheme->enter_invalidate(from(0), Wait::kNoWait, nullptr, &other));
        free.scheme->leave_invalidate(&other);
      }
      busy.scheme->leave_invalidate(&t);
      CHECK(i[0].waiters() + i[1].waiters() == 0);
    }
    TwoFiles two(side(i[0], 1, LockSide::kBlock, pages(5, 6)), side(i[1], 2, LockSide::kAdd, pages(5, 6)));
    CHECK(two.enter(Wait::kNoWait) == 0);
  }
}

#ifdef PMFS_DEBUG_LOCKS
// The negative control: each holds one file and waits for the other's. That is the deadlock the others don't run into;
// and the checker says so before it happens.
TEST_CASE("two files: holding one and waiting for the other, in either order, is a deadlock, and the checker's to see") {
  static std::atomic<int> violations;
  violations = 0;
  const lock_order::Handler previous = lock_order::set_handler([](const char*) { ++violations; });
  SchemeInode a(*find_scheme("range"), 1), b(*find_scheme("range"), 2);
  CancelToken rescue;
  std::atomic<int> holding{0};
  std::atomic<bool> got{true};
  auto naive = [&](SchemeInode& to, SchemeInode& of, CancelToken* cancel) {
    InvalidateTicket first, second;
    to.scheme->enter_invalidate(pages(0, 10), Wait::kBlock, nullptr, &first);
    ++holding;
    eventually([&] { return holding == 2; });
    if (of.scheme->enter_invalidate(pages(5, 6), Wait::kBlock, cancel, &second)) {
      of.scheme->leave_invalidate(&second);
    } else {
      got = false;
    }
    to.scheme->leave_invalidate(&first);
  };
  std::thread one([&] { naive(a, b, &rescue); }), other([&] { naive(b, a, nullptr); });
  CHECK(eventually([&] { return a.waiters() == 1 && b.waiters() == 1; }));  // for ever, but for the rescue
  rescue.cancel();
  one.join();
  other.join();
  lock_order::set_handler(previous);
  CHECK_FALSE(got);
  CHECK(violations == 1);
}
#endif

#ifdef PMFS_PAUSE_POINTS
// Forced: each has its first file and goes for the other's.
TEST_CASE("two files: AB-BA head-on: one gives way, both come through") {
  for (const SchemeInfo& s : schemes()) {
    if (!s.sound) continue;
    INFO(s.name);
    SchemeInode a(s, 1), b(s, 2);
    // The back-off starts with the lower ino whatever the caller's order, so only wound/wait can be met head-on there;
    // for the others the second file is held by an operation on one file.
    pause::Gate gate("two_files:first_entered");
    std::atomic<uint64_t> retries{0}, done{0};
    std::thread first([&] {
      TwoFiles two(side(a, 1, LockSide::kBlock, pages(0, 10)), side(b, 2, LockSide::kAdd, pages(5, 6)));
      if (two.enter(Wait::kBlock) != 0) std::abort();
      retries += two.retries();
      ++done;
    });
    REQUIRE(gate.wait_arrived());
    InvalidateTicket t;
    REQUIRE(b.scheme->enter_invalidate(pages(0, 10), Wait::kBlock, nullptr, &t));
    std::thread second([&] {
      TwoFiles two(side(b, 2, LockSide::kBlock, pages(20, 30)), side(a, 1, LockSide::kAdd, pages(5, 6)));
      if (two.enter(Wait::kBlock) != 0) std::abort();
      retries += two.retries();
      ++done;
    });
    REQUIRE(eventually([&] { return a.waiters() + b.waiters() > 0; }));
    gate.release();
    b.scheme->leave_invalidate(&t);
    first.join();
    second.join();
    CHECK(done == 2);
    CHECK(a.waiters() + b.waiters() == 0);
  }
}
#endif
