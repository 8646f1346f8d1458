// Interleaving 24: a storm of faults against one invalidate, and a loop of invalidates against one fault.
#include <catch2/catch.hpp>

#include <atomic>

#include "pmfs/base/pause.h"
#include "tests/exclusion/helpers.h"

using namespace pmfs;
using namespace pmfs::exclusion;

TEST_CASE("a storm of faults doesn't hold up a mark, over a whole entry or through a large one") {
  const bool straddle = GENERATE(false, true);
  LockEntryTree t(1);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> faults{0};
  Threads storm;
  for (int i = 0; i < 4; ++i) {
    storm.run([&] {
      while (!stop) {
        LockedEntry e = t.lock(Pgoff(5), straddle ? kHugeOrder : 0, Wait::kBlock);
        t.unlock(e, Entry::make(Pfn(512), e.value.order(), 0));
        ++faults;
      }
    });
  }
  for (int i = 0; i < 50; ++i) {
    std::optional<Marks> m = t.mark(straddle ? pages(3, 9) : pages(0, 512), Wait::kBlock);
    REQUIRE(m);
    const uint64_t before = faults;
    t.erase(m->range, LockEntryTree::Erase::kMarked);
    t.unmark(*m);
    CHECK(eventually([&] { return faults > before; }));
  }
  stop = true;
  storm.join();
}

TEST_CASE("a loop of marks doesn't shut out a fault: it gets its turn before the next mark over its page") {
  LockEntryTree t(1);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> marks{0};
  std::thread marker([&] {
    while (!stop) {
      std::optional<Marks> m = t.mark(pages(0, 10), Wait::kBlock);
      ++marks;
      t.unmark(*m);
    }
  });
  for (int i = 0; i < 200; ++i) {
    put(t, 5, 1);
    const uint64_t before = marks;
    CHECK(eventually([&] { return marks > before; }));
  }
  stop = true;
  marker.join();
  CHECK(t.waiters() == 0);
}

TEST_CASE("a fault asleep at a mark is let through before the next one is set") {
  LockEntryTree t(1);
  std::optional<Marks> m = t.mark(pages(0, 10), Wait::kBlock);
  std::atomic<bool> through{false};
  std::thread fault([&] {
    put(t, 5, 1);
    through = true;
  });
  CHECK(eventually([&] { return t.waiters() == 1; }));
  t.unmark(*m);
  // Whether or not the fault has run by now, a mark that may wait comes after it; one elsewhere needn't.
  std::optional<Marks> other = t.mark(pages(20, 30), Wait::kNoWait);
  CHECK(other);
  t.unmark(*other);
  m = t.mark(pages(0, 10), Wait::kBlock);
  CHECK(t.peek(Pgoff(5)).present());
  t.unmark(*m);
  fault.join();
}

#ifdef PMFS_PAUSE_POINTS
TEST_CASE("a mark that may not wait is refused while a fault has its turn, and comes through after it") {
  LockEntryTree t(1);
  std::optional<Marks> m = t.mark(pages(0, 10), Wait::kBlock);
  pause::Gate gate("entry:locked_before_mark_check");
  std::thread fault([&] { put(t, 5, 1); });
  CHECK(eventually([&] { return t.waiters() == 1; }));
  t.unmark(*m);
  REQUIRE(gate.wait_arrived());  // has its turn and LOCKED, not yet through
  CHECK_FALSE(t.mark(pages(0, 10), Wait::kNoWait).has_value());
  CHECK_FALSE(t.marked(Pgoff(5)));
  gate.release();
  fault.join();
  m = t.mark(pages(0, 10), Wait::kNoWait);
  REQUIRE(m);
  t.unmark(*m);
}
#endif
