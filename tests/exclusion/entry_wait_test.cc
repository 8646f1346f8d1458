// Sleeping and waking: the interleavings of entries and marks, forced by states or by pause points, never by time.
#include <catch2/catch.hpp>

#include <atomic>

#include "pmfs/base/pause.h"
#include "tests/exclusion/helpers.h"

using namespace pmfs;
using namespace pmfs::exclusion;

TEST_CASE("a second fault on a page sleeps until the first is through and then sees its value") {
  LockEntryTree t(1);
  LockedEntry e = t.lock(Pgoff(5), 0, Wait::kBlock);
  uint64_t seen = 0;
  std::thread second([&] {
    LockedEntry mine = t.lock(Pgoff(5), 0, Wait::kBlock);
    seen = mine.value.pfn().v;
    t.unlock(mine, mine.value);
  });
  CHECK(eventually([&] { return t.waiters() == 1; }));
  t.unlock(e, Entry::make(Pfn(77), 0, 0));
  second.join();
  CHECK(seen == 77);
  CHECK(t.waiters() == 0);
}

TEST_CASE("a waiter at an offset inside a large entry is woken by its head (interleaving 11)") {
  LockEntryTree t(1);
  put(t, 512, 4096, kHugeOrder);
  LockedEntry e = t.lock(Pgoff(512), 0, Wait::kBlock);
  Pgoff head;
  std::thread waiter([&] {
    LockedEntry mine = t.lock(Pgoff(999), 0, Wait::kBlock);
    head = mine.head;
    t.unlock(mine, mine.value);
  });
  CHECK(eventually([&] { return t.waiters() == 1; }));
  t.unlock(e, e.value);
  waiter.join();
  CHECK(head == Pgoff(512));
}

TEST_CASE("a waiter for a large entry that is split, or removed, finds its own page (interleaving 10)") {
  const bool split = GENERATE(true, false);
  LockEntryTree t(1);
  put(t, 512, 4096, kHugeOrder);
  LockedEntry e = t.lock(Pgoff(512), 0, Wait::kBlock);
  LockedEntry mine;
  std::thread waiter([&] {
    mine = t.lock(Pgoff(999), 0, Wait::kBlock);
    t.unlock(mine, Entry{});
  });
  CHECK(eventually([&] { return t.waiters() == 1; }));
  if (split) {
    LockedEntry small = t.split(e, Pgoff(513));
    waiter.join();  // its page is free although page 513 is still locked
    t.unlock(small, small.value);
    CHECK(mine.value.pfn() == Pfn(4096 + 999 - 512));
  } else {
    t.unlock(e, Entry{});
    waiter.join();
    CHECK_FALSE(mine.value.present());
  }
  CHECK(mine.head == Pgoff(999));
  CHECK(mine.value.order() == 0);
}

TEST_CASE("the entry is removed under many waiters: every one of them gets its turn (interleaving 12)") {
  LockEntryTree t(1);
  LockedEntry e = t.lock(Pgoff(5), 0, Wait::kBlock);
  std::atomic<int> through{0};
  Threads threads;
  for (int i = 0; i < 8; ++i) {
    threads.run([&] {
      LockedEntry mine = t.lock(Pgoff(5), 0, Wait::kBlock);
      t.unlock(mine, Entry{});  // finds nothing, leaves nothing
      ++through;
    });
  }
  CHECK(eventually([&] { return t.waiters() == 8; }));
  t.unlock(e, Entry{});
  threads.join();
  CHECK(through == 8);
  CHECK(t.waiters() == 0);
}

TEST_CASE("waiters for one page are not woken into another tree's entry of the same page") {
  LockEntryTree a(1), b(2);
  LockedEntry ea = a.lock(Pgoff(5), 0, Wait::kBlock), eb = b.lock(Pgoff(5), 0, Wait::kBlock);
  std::atomic<bool> done{false};
  std::thread waiter([&] {
    LockedEntry mine = a.lock(Pgoff(5), 0, Wait::kBlock);
    a.unlock(mine, Entry{});
    done = true;
  });
  CHECK(eventually([&] { return a.waiters() == 1; }));
  b.unlock(eb, Entry{});
  CHECK_FALSE(done);
  CHECK(a.waiters() == 1);
  a.unlock(ea, Entry{});
  waiter.join();
}

TEST_CASE("a mark waits for the faults in flight under it, and for no others") {
  LockEntryTree t(1);
  LockedEntry outside = t.lock(Pgoff(99), 0, Wait::kBlock);
  LockedEntry inside = t.lock(Pgoff(5), 0, Wait::kNoWait);
  std::atomic<bool> marked{false};
  std::thread marker([&] {
    std::optional<Marks> m = t.mark(pages(0, 10), Wait::kBlock);
    marked = true;
    t.unmark(*m);
  });
  CHECK(eventually([&] { return t.waiters() == 1; }));
  CHECK_FALSE(marked);
  t.unlock(inside, Entry{});
  marker.join();
  CHECK(marked);
  t.unlock(outside, Entry{});
}

TEST_CASE("a fault waits for the mark over its page, and for no other mark") {
  LockEntryTree t(1);
  std::optional<Marks> far = t.mark(from(1000), Wait::kBlock), near = t.mark(pages(0, 10), Wait::kBlock);
  std::thread fault([&] {
    LockedEntry e = t.lock(Pgoff(5), 0, Wait::kBlock);
    t.unlock(e, Entry::make(Pfn(1), 0, 0));
  });
  CHECK(eventually([&] { return t.waiters() == 1; }));
  t.unmark(*near);
  fault.join();
  CHECK(t.peek(Pgoff(5)).present());
  t.unmark(*far);
}

TEST_CASE("a mark drains into what its owner split meanwhile") {
  LockEntryTree t(1);
  put(t, 512, 4096, kHugeOrder);
  LockedEntry e = t.lock(Pgoff(600), 0, Wait::kBlock);
  std::atomic<bool> marked{false};
  std::thread marker([&] {
    std::optional<Marks> m = t.mark(pages(512, 1024), Wait::kBlock);
    marked = true;
    t.unmark(*m);
  });
  CHECK(eventually([&] { return t.waiters() == 1; }));
  e = t.split(e, Pgoff(600));  // wakes the marker, which must find the small locked entry below
  CHECK(eventually([&] { return (e.slot->load() & Entry::kWaiters) != 0; }));
  CHECK_FALSE(marked);
  t.unlock(e, e.value);
  marker.join();
}

#ifdef PMFS_PAUSE_POINTS

TEST_CASE("Dekker, fault first: LOCKED set, marks not yet read; the mark comes in between; the fault backs out") {
  LockEntryTree t(1);
  pause::Gate gate("entry:locked_before_mark_check");
  std::atomic<bool> got{false};
  std::thread fault([&] {
    LockedEntry e = t.lock(Pgoff(5), 0, Wait::kBlock);
    got = true;
    t.unlock(e, Entry{});
  });
  REQUIRE(gate.wait_arrived());
  std::atomic<bool> marked{false}, leave{false};
  std::thread marker([&] {
    std::optional<Marks> m = t.mark(pages(0, 10), Wait::kBlock);
    marked = true;
    eventually([&] { return leave.load(); });
    t.unmark(*m);
  });
  CHECK(eventually([&] { return t.waiters() == 1; }));  // the marker, waiting for LOCKED to go
  CHECK_FALSE(marked);
  gate.release();
  CHECK(eventually([&] { return marked.load(); }));
  CHECK(eventually([&] { return t.waiters() == 1; }));  // the fault, waiting for the mark to go
  CHECK_FALSE(got);
  leave = true;
  marker.join();
  fault.join();
  CHECK(got);
}

TEST_CASE("a fault that backs out and may not wait takes the entry it made away again (interleaving 21)") {
  LockEntryTree t(1);
  pause::Gate fault_gate("entry:locked_before_mark_check"), marker_gate("mark:set_before_drain");
  std::atomic<bool> got{true};
  std::thread fault([&] { got = static_cast<bool>(t.lock(Pgoff(5), kHugeOrder, Wait::kNoWait)); });
  REQUIRE(fault_gate.wait_arrived());
  std::thread marker([&] {
    std::optional<Marks> m = t.mark(from(0), Wait::kBlock);
    t.unmark(*m);
  });
  REQUIRE(marker_gate.wait_arrived());
  fault_gate.release();
  fault.join();
  CHECK_FALSE(got);
  marker_gate.release();
  marker.join();
  LockedEntry e = t.lock(Pgoff(5), 0, Wait::kNoWait);  // an empty 2 MiB entry would be found here
  CHECK(e.value.order() == 0);
  t.unlock(e, Entry{});
}

TEST_CASE("Dekker, mark first: bits set, entries not yet read; a fault comes in between and is shut out") {
  LockEntryTree t(1);
  pause::Gate gate("mark:set_before_drain");
  std::thread marker([&] {
    std::optional<Marks> m = t.mark(pages(0, 10), Wait::kBlock);
    t.unmark(*m);
  });
  REQUIRE(gate.wait_arrived());
  CHECK_FALSE(t.lock(Pgoff(5), 0, Wait::kNoWait));
  LockedEntry outside = t.lock(Pgoff(10), 0, Wait::kNoWait);
  CHECK(outside);
  t.unlock(outside, Entry{});
  gate.release();
  marker.join();
}

TEST_CASE("the unlock comes between seeing LOCKED and falling asleep: the sleeper doesn't sleep") {
  LockEntryTree t(1);
  LockedEntry e = t.lock(Pgoff(5), 0, Wait::kBlock);
  pause::Gate gate("entry:before_sleep");
  std::thread waiter([&] {
    LockedEntry mine = t.lock(Pgoff(5), 0, Wait::kBlock);
    t.unlock(mine, Entry{});
  });
  REQUIRE(gate.wait_arrived());
  t.unlock(e, Entry{});
  gate.release();
  waiter.join();
}

TEST_CASE("the unmark comes between seeing the mark and falling asleep: the sleeper doesn't sleep") {
  LockEntryTree t(1);
  std::optional<Marks> m = t.mark(pages(0, 10), Wait::kBlock);
  pause::Gate gate("entry:before_mark_sleep");
  std::thread waiter([&] {
    LockedEntry mine = t.lock(Pgoff(5), 0, Wait::kBlock);
    t.unlock(mine, Entry{});
  });
  REQUIRE(gate.wait_arrived());
  t.unmark(*m);
  gate.release();
  waiter.join();
}

TEST_CASE("a second waiter arrives between the unlock and its wake-up: it locks, and the first still gets through") {
  LockEntryTree t(1);
  std::atomic<bool> release{false};
  pause::Gate gate("entry:unlocked_before_wake");
  std::atomic<bool> locked{false};
  Threads threads;
  threads.run([&] {
    LockedEntry e = t.lock(Pgoff(5), 0, Wait::kBlock);
    locked = true;
    eventually([&] { return release.load(); });
    t.unlock(e, Entry{});
  });
  CHECK(eventually([&] { return locked.load(); }));
  threads.run([&] {
    LockedEntry mine = t.lock(Pgoff(5), 0, Wait::kBlock);
    t.unlock(mine, Entry{});
  });
  CHECK(eventually([&] { return t.waiters() == 1; }));
  release = true;
  REQUIRE(gate.wait_arrived());
  LockedEntry barging = t.lock(Pgoff(5), 0, Wait::kNoWait);
  CHECK(barging);
  gate.release();
  // The first waiter is woken, finds it locked again and goes back to sleep, setting WAITERS anew.
  CHECK(eventually([&] { return (barging.slot->load() & Entry::kWaiters) != 0; }));
  t.unlock(barging, Entry{});
  threads.join();
}

TEST_CASE("a woken waiter that goes no further swallows nobody's wake-up (interleaving 13)") {
  LockEntryTree t(1);
  LockedEntry e = t.lock(Pgoff(5), 0, Wait::kBlock);
  pause::Gate dead("entry:woken");  // the first to wake stops for good, as if its client had been killed
  std::atomic<int> through{0};
  Threads threads;
  for (int i = 0; i < 4; ++i) {
    threads.run([&] {
      LockedEntry mine = t.lock(Pgoff(5), 0, Wait::kBlock);
      t.unlock(mine, Entry{});
      ++through;
    });
  }
  CHECK(eventually([&] { return t.waiters() == 4; }));
  t.unlock(e, Entry{});
  REQUIRE(dead.wait_arrived());
  CHECK(eventually([&] { return through == 3; }));  // without it
  dead.release();
  threads.join();
  CHECK(through == 4);
}

TEST_CASE("two faults make the same nodes at once; one of each survives") {
  LockEntryTree t(1);
  constexpr uint64_t kFar = uint64_t{1} << 45;
  Threads threads;
  for (uint64_t i = 0; i < 4; ++i) {
    threads.run([&t, i] {
      for (uint64_t n = 0; n < 50; ++n) put(t, kFar + n * 600 + i, i);
    });
  }
  threads.join();
  unsigned n = 0;
  t.for_each(from(kFar), [&](Pgoff, Entry) { ++n; });
  CHECK(n == 200);
}

#endif  // PMFS_PAUSE_POINTS
