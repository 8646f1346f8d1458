// mark_in_order: marks that order each other without a range lock (scheme `entries`).
#include <catch2/catch.hpp>

#include <atomic>
#include <random>

#include "tests/exclusion/helpers.h"

using namespace pmfs;
using namespace pmfs::exclusion;

TEST_CASE("marks in order: refused above, in and below another, allowed beside it") {
  LockEntryTree t(1);
  const auto refused = [&](PageRange r) {
    std::optional<Marks> m = t.mark_in_order(r, Wait::kNoWait);
    if (m) t.unmark(*m);
    return !m;
  };
  std::optional<Marks> wide = t.mark_in_order(pages(512, 512 * 600), Wait::kNoWait);
  REQUIRE(wide);
  CHECK(refused(pages(600, 601)));        // below a slot that is marked
  CHECK(refused(from(0)));                // above
  CHECK(refused(pages(0, 513)));          // the last page only
  CHECK_FALSE(refused(pages(0, 512)));
  CHECK_FALSE(refused(from(512 * 600)));
  t.unmark(*wide);
  std::optional<Marks> small = t.mark_in_order(pages(600, 601), Wait::kNoWait);
  REQUIRE(small);
  CHECK(refused(from(0)));
  CHECK(refused(pages(512, 1024)));
  CHECK_FALSE(refused(pages(601, 1024)));
  for (uint64_t p : {0, 512, 599, 601, 1024}) CHECK_FALSE(t.marked(Pgoff(p)));  // refused ones leave nothing
  t.unmark(*small);
  CHECK_FALSE(refused(from(0)));
}

TEST_CASE("marks in order: a later piece is waited for with the earlier ones held") {
  LockEntryTree t(1);
  std::optional<Marks> right = t.mark_in_order(pages(1024, 1030), Wait::kNoWait);
  REQUIRE(right);
  std::atomic<bool> through{false};
  std::thread wide([&] {
    std::optional<Marks> m = t.mark_in_order(pages(5, 2000), Wait::kBlock);
    through = true;
    t.unmark(*m);
  });
  REQUIRE(eventually([&] { return t.waiters() == 1; }));
  CHECK(t.marked(Pgoff(5)));
  CHECK_FALSE(through);
  LockedEntry e = t.lock(Pgoff(2), 0, Wait::kNoWait);
  CHECK(e);
  t.unlock(e, Entry{});
  t.unmark(*right);
  wide.join();
  CHECK(through);
  CHECK(t.waiters() == 0);
}

TEST_CASE("marks in order: threads at random, with faults; plain variables are the witnesses") {
  constexpr uint64_t kPages = 3 * 512;
  LockEntryTree t(1);
  std::array<uint64_t, kPages> count{};  // not atomic
  std::atomic<uint64_t> touched{0};
  Threads threads;
  for (uint64_t n = 0; n < 3; ++n) {
    threads.run([&, n] {
      std::mt19937_64 rng(n);
      uint64_t mine = 0;
      for (int i = 0; i < 400; ++i) {
        const uint64_t a = rng() % kPages;
        const PageRange r = rng() % 4 == 0 ? from(a) : pages(a, std::min(kPages, a + 1 + rng() % 700));
        std::optional<Marks> m = t.mark_in_order(r, rng() % 4 ? Wait::kBlock : Wait::kNoWait);
        if (!m) continue;
        for (uint64_t p = r.first.v; p < std::min(kPages, r.end.v); ++p, ++mine) ++count[p];
        t.erase(r, LockEntryTree::Erase::kMarked);
        t.unmark(*m);
      }
      touched += mine;
    });
  }
  threads.run([&] {
    std::mt19937_64 rng(7);
    uint64_t mine = 0;
    for (int i = 0; i < 4000; ++i, ++mine) {
      LockedEntry e = t.lock(Pgoff(rng() % kPages), rng() % 4 ? 0 : kHugeOrder, Wait::kBlock);
      ++count[e.head.v];
      t.unlock(e, Entry::make(Pfn(512), e.value.order(), 0));
    }
    touched += mine;
  });
  threads.join();
  uint64_t sum = 0;
  for (uint64_t c : count) sum += c;
  CHECK(sum == touched);
  for (uint64_t p = 0; p < kPages; ++p) REQUIRE_FALSE(t.marked(Pgoff(p)));
  CHECK(t.waiters() == 0);
}
