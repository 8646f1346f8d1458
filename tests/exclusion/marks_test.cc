// Marks: what they cover, what they cost, and that a failed one leaves nothing behind.
#include <catch2/catch.hpp>

#include <random>

#include "tests/exclusion/helpers.h"

using namespace pmfs;
using namespace pmfs::exclusion;

TEST_CASE("a mark covers its range exactly, at any alignment") {
  constexpr uint64_t kMiB2 = 512, kGiB = 512 * 512;
  for (PageRange r : {pages(0, 1), pages(5, 6), pages(0, 512), pages(511, 513), pages(63, 65), pages(64, 128),
                      pages(3, 3 * kGiB + 7), pages(kMiB2, kGiB), pages(kGiB - 1, kGiB + 1), pages(kGiB, 2 * kGiB),
                      from(0), from(1), from(kGiB), from(kMaxPgoff), pages(100, kMaxPgoff)}) {
    LockEntryTree t(1);
    std::optional<Marks> m = t.mark(r, Wait::kBlock);
    REQUIRE(m);
    INFO("[" << r.first.v << ", " << r.end.v << ")");
    CHECK(t.marked(r.first));
    CHECK(t.marked(r.end - 1));
    CHECK(t.marked(r.first + r.count() / 2));
    if (r.first.v > 0) CHECK_FALSE(t.marked(r.first - 1));
    if (r.end < kEndOfFile) CHECK_FALSE(t.marked(r.end));
    t.unmark(*m);
    CHECK_FALSE(t.marked(r.first));
    CHECK_FALSE(t.marked(r.end - 1));
    CHECK_FALSE(t.marked(r.first + r.count() / 2));
  }
}

TEST_CASE("marks side by side, set and cleared in any order, keep to themselves") {
  LockEntryTree t(1);
  std::mt19937_64 rng(42);
  constexpr uint64_t kCell = 100, kCells = 40;  // cells share words, leaves and 2 MiB slots
  std::vector<std::optional<Marks>> marks(kCells);
  for (int step = 0; step < 2000; ++step) {
    std::optional<Marks>& m = marks[rng() % kCells];
    const uint64_t at = static_cast<uint64_t>(&m - marks.data()) * kCell;
    if (m) {
      t.unmark(*m);
      m.reset();
    } else {
      m = t.mark(pages(at, at + kCell), Wait::kBlock);
    }
    const uint64_t probe = rng() % (kCell * kCells);
    REQUIRE(t.marked(Pgoff(probe)) == marks[probe / kCell].has_value());
  }
  for (auto& m : marks) {
    if (m) t.unmark(*m);
  }
}

TEST_CASE("an empty range marks nothing") {
  LockEntryTree t(1);
  std::optional<Marks> m = t.mark(pages(7, 7), Wait::kNoWait);
  REQUIRE(m);
  CHECK_FALSE(t.marked(Pgoff(7)));
  CHECK(t.memory_bytes() < 256);
  t.unmark(*m);
}

TEST_CASE("a mark makes at most two nodes a level, however long the range") {
  uint64_t most = 0;
  for (uint64_t bits = 0; bits < 51; ++bits) {
    for (bool to_the_end : {false, true}) {
      LockEntryTree t(1);
      const uint64_t before = t.memory_bytes(), first = (uint64_t{1} << bits) - 1;
      std::optional<Marks> m = t.mark(to_the_end ? from(first) : pages(1, first + 2), Wait::kBlock);
      REQUIRE(m);
      most = std::max(most, t.memory_bytes() - before);
      t.unmark(*m);
    }
  }
  INFO("most: " << most);
  CHECK(most <= 2 * 5 * 4200);
}

TEST_CASE("a fault that may not wait is refused under a mark and leaves no entry") {
  LockEntryTree t(1);
  std::optional<Marks> m = t.mark(from(3), Wait::kBlock);
  CHECK_FALSE(t.lock(Pgoff(3), 0, Wait::kNoWait));
  CHECK_FALSE(t.lock(Pgoff(1) + (uint64_t{1} << 40), kHugeOrder, Wait::kNoWait));
  LockedEntry below = t.lock(Pgoff(2), 0, Wait::kNoWait);
  CHECK(below);
  t.unlock(below, Entry{});
  t.unmark(*m);
  unsigned n = 0;
  t.for_each(from(0), [&](Pgoff, Entry) { ++n; });
  CHECK(n == 0);
  CHECK(t.waiters() == 0);
}

TEST_CASE("no-wait at every contention point: EAGAIN, and no lock, mark, entry or waiter stays (interleaving 21)") {
  LockEntryTree t(1);
  put(t, 1024, 4096, kHugeOrder);
  LockedEntry held = t.lock(Pgoff(5), 0, Wait::kBlock);
  LockedEntry huge = t.lock(Pgoff(1024), 0, Wait::kNoWait);
  REQUIRE(huge);

  CHECK_FALSE(t.lock(Pgoff(5), 0, Wait::kNoWait));                // fault against fault
  CHECK_FALSE(t.lock(Pgoff(1100), 0, Wait::kNoWait));             // small fault against large fault
  CHECK_FALSE(t.mark(pages(0, 10), Wait::kNoWait).has_value());   // mark against a fault in the middle
  CHECK_FALSE(t.mark(pages(0, 1100), Wait::kNoWait).has_value()); // and with an edge in a locked large entry
  CHECK_FALSE(t.mark(from(0), Wait::kNoWait).has_value());
  CHECK(t.waiters() == 0);
  for (uint64_t p : {0, 5, 9, 600, 1024, 1100, 1 << 20}) CHECK_FALSE(t.marked(Pgoff(p)));
  CHECK(held.slot->load() == held.word);  // not even WAITERS

  CHECK(t.unlock(held, Entry{}));
  CHECK(t.unlock(huge, huge.value));
  std::optional<Marks> m = t.mark(from(0), Wait::kNoWait);
  REQUIRE(m);
  t.unmark(*m);
}
