// Every scheme is asked the same questions. The sound ones must answer yes; each of those broken on purpose must be
// caught by the question it was made for.
#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <atomic>

#include "pmfs/base/pause.h"
#include "tests/exclusion/helpers.h"

using namespace pmfs;
using namespace pmfs::exclusion;

namespace {

bool one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// A fault stands between its lookup and its install when an invalidate of that page comes. Was the invalidate let in?
// The fault goes on when either the invalidate is in, or it is asleep: both are states, not times.
bool invalidate_meets_fault(const SchemeInfo& s) {
  SchemeInode i(s);
  std::atomic<bool> looked_up{false}, installed{false}, entered{false}, met{false};
  std::thread fault([&] {
    Fault f(i, 5);
    f.begin();
    f.resolved();
    looked_up = true;
    eventually([&] { return entered || i.waiters() > 0; });
    installed = true;
    f.end(Entry::make(Pfn(7), 0, 0));
  });
  eventually([&] { return looked_up.load(); });
  InvalidateTicket t;
  if (!i.scheme->enter_invalidate(pages(0, 10), Wait::kBlock, nullptr, &t)) std::abort();
  met = !installed;
  entered = true;
  i.tree.erase(pages(0, 10), i.scheme->erase_mode());
  i.scheme->leave_invalidate(&t);
  fault.join();
  return met;
}

// An invalidate has unmapped page 5 and is about to free its block. Does a fault get as far as to install it again?
bool fault_between_unmap_and_free(const SchemeInfo& s) {
  SchemeInode i(s);
  put(i.tree, 5, 7);
  InvalidateTicket t;
  if (!i.scheme->enter_invalidate(pages(0, 10), Wait::kBlock, nullptr, &t)) std::abort();
  i.scheme->unmapped(&t);
  std::atomic<bool> through{false};
  bool found = false;
  std::thread fault([&] {
    Fault f(i, 5);
    f.begin();
    found = f.entry.value.present();
    f.resolved();
    f.end(f.entry.value);
    through = true;
  });
  eventually([&] { return through || i.waiters() > 0; });
  const bool in_the_gap = through;
  i.tree.erase(pages(0, 10), i.scheme->erase_mode());
  i.scheme->leave_invalidate(&t);
  fault.join();
  return in_the_gap && found;
}

// Faults and invalidates at random; how often was a fault between lookup and install while an invalidate was in?
uint64_t overlaps(const SchemeInfo& s, int rounds) {
  pause::g_jitter = 8;
  SchemeInode i(s);
  std::atomic<int> between{0}, faulting{3};
  std::atomic<uint64_t> seen{0};
  Threads threads;
  for (uint64_t n = 0; n < 3; ++n) {
    threads.run([&, n] {
      for (int r = 0; r < rounds; ++r) {
        Fault f(i, 5 + n);
        f.begin();
        ++between;
        f.resolved();
        PMFS_PAUSE_POINT("test:between_lookup_and_install");
        if (r % 16 == 0) std::this_thread::yield();
        --between;
        f.end(Entry{});
      }
      --faulting;
    });
  }
  threads.run([&] {
    while (faulting > 0) {
      InvalidateTicket t;
      if (!i.scheme->enter_invalidate(from(0), Wait::kBlock, nullptr, &t)) std::abort();
      if (between != 0) ++seen;
      i.scheme->unmapped(&t);
      std::this_thread::yield();
      if (between != 0) ++seen;
      i.scheme->leave_invalidate(&t);
    }
  });
  threads.join();
  pause::g_jitter = 0;
  return seen;
}

}  // namespace

TEST_CASE("schemes are found by name, and only sound ones are for real use") {
  REQUIRE(find_scheme(kDefaultScheme));
  CHECK(find_scheme(kDefaultScheme)->sound);
  CHECK(find_scheme("nonsense") == nullptr);
  for (const SchemeInfo& s : schemes()) {
    CHECK(find_scheme(s.name) == &s);
    CHECK(SchemeInode(s).scheme->name() == s.name);
  }
  for (const char* name : {"range", "entries", "range-only", "invalidate", "mmap-lock", "seqtex", "generation", "add-lock"}) {
    INFO(name);
    REQUIRE(find_scheme(name));
    CHECK(find_scheme(name)->sound);
  }
  for (const char* name : {"none", "isize-only", "unmap-only"}) {
    INFO(name);
    REQUIRE(find_scheme(name));
    CHECK_FALSE(find_scheme(name)->sound);
  }
}

TEST_CASE("an invalidate and a fault between lookup and install (interleavings 1, 2, 4)") {
  for (const SchemeInfo& s : schemes()) {
    INFO(s.name);
    CHECK(invalidate_meets_fault(s) == one_of(s.name, {"none", "isize-only"}));
  }
}

TEST_CASE("a fault between unmap and free (interleaving 3)") {
  for (const SchemeInfo& s : schemes()) {
    INFO(s.name);
    CHECK(fault_between_unmap_and_free(s) == one_of(s.name, {"none", "unmap-only"}));
  }
}

TEST_CASE("the same at random: never for a sound scheme, soon for a broken one") {
  for (const SchemeInfo& s : schemes()) {
    INFO(s.name);
    if (s.sound) {
      CHECK(overlaps(s, 300) == 0);
    } else {
      uint64_t seen = 0;
      for (int attempt = 0; attempt < 50 && seen == 0; ++attempt) seen = overlaps(s, 500);
      CHECK(seen > 0);
    }
  }
}

TEST_CASE("two invalidates of one range exclude each other under every scheme, those of disjoint ranges as it says") {
  for (const SchemeInfo& s : schemes()) {
    INFO(s.name);
    SchemeInode i(s);
    InvalidateTicket a, b;
    REQUIRE(i.scheme->enter_invalidate(pages(0, 10), Wait::kBlock, nullptr, &a));
    CHECK_FALSE(i.scheme->enter_invalidate(pages(5, 6), Wait::kNoWait, nullptr, &b));
    const bool beside = i.scheme->enter_invalidate(pages(600, 601), Wait::kNoWait, nullptr, &b);
    CHECK(beside == !one_of(s.name, {"invalidate", "mmap-lock", "seqtex", "isize-only"}));
    if (beside) i.scheme->leave_invalidate(&b);
    i.scheme->leave_invalidate(&a);
    REQUIRE(i.scheme->enter_invalidate(pages(5, 6), Wait::kNoWait, nullptr, &b));
    i.scheme->leave_invalidate(&b);
    CHECK(i.waiters() == 0);
  }
}

TEST_CASE("faults beside an invalidate: whom one lock per file costs") {
  for (const SchemeInfo& s : schemes()) {
    INFO(s.name);
    SchemeInode i(s);
    InvalidateTicket t;
    REQUIRE(i.scheme->enter_invalidate(pages(0, 10), Wait::kBlock, nullptr, &t));
    Fault f(i, 600);
    const bool in = f.begin(Wait::kNoWait);
    // Those by range let it in; `generation` does by its second path.
    CHECK(in == one_of(s.name, {"range", "entries", "range-only", "generation", "unmap-only", "none"}));
    if (in) f.end(Entry{});
    i.scheme->leave_invalidate(&t);
  }
}

TEST_CASE("no-wait is refused at each side and leaves nothing (interleaving 21)") {
  for (const SchemeInfo& s : schemes()) {
    if (!s.sound) continue;
    INFO(s.name);
    SchemeInode i(s);
    InvalidateTicket t;
    Fault f(i, 5), g(i, 5);
    REQUIRE(f.begin());
    CHECK_FALSE(i.scheme->enter_invalidate(from(0), Wait::kNoWait, nullptr, &t));
    CHECK_FALSE(g.begin(Wait::kNoWait));
    f.end(Entry{});
    REQUIRE(i.scheme->enter_invalidate(from(0), Wait::kNoWait, nullptr, &t));
    CHECK_FALSE(g.begin(Wait::kNoWait));
    i.scheme->leave_invalidate(&t);
    CHECK_FALSE(i.tree.marked(Pgoff(5)));
    CHECK(i.waiters() == 0);
    REQUIRE(g.begin(Wait::kNoWait));
    g.end(Entry{});
  }
}

TEST_CASE("a 2 MiB entry that straddles the edge of an invalidate is split: its other half stays") {
  for (const SchemeInfo& s : schemes()) {
    if (!s.sound) continue;
    INFO(s.name);
    SchemeInode i(s);
    put(i.tree, 512, 1024, kHugeOrder, Entry::kDirty);
    InvalidateTicket t;
    REQUIRE(i.scheme->enter_invalidate(pages(600, 2000), Wait::kBlock, nullptr, &t));
    i.tree.erase(pages(600, 2000), i.scheme->erase_mode());
    i.scheme->leave_invalidate(&t);
    CHECK(i.tree.peek(Pgoff(599)).pfn() == Pfn(1024 + 87));
    CHECK(i.tree.peek(Pgoff(599)).dirty());
    CHECK_FALSE(i.tree.peek(Pgoff(600)).present());
    CHECK_FALSE(i.tree.peek(Pgoff(1023)).present());
  }
}

TEST_CASE("a loop of invalidates against one fault, a storm of faults against one invalidate (interleaving 24)") {
  for (const SchemeInfo& s : schemes()) {
    if (!s.sound) continue;
    INFO(s.name);
    SchemeInode i(s);
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> invalidates{0}, faults{0};
    Threads threads;
    threads.run([&] {
      while (!stop) {
        InvalidateTicket t;
        if (!i.scheme->enter_invalidate(pages(0, 10), Wait::kBlock, nullptr, &t)) std::abort();
        ++invalidates;
        i.scheme->leave_invalidate(&t);
      }
    });
    for (uint64_t n = 0; n < 3; ++n) {
      threads.run([&, n] {
        while (!stop) {
          Fault f(i, 4 + n % 2);
          f.begin();
          ++faults;
          f.end(Entry{});
        }
      });
    }
    for (int round = 0; round < 20; ++round) {
      const uint64_t p = invalidates, f = faults;
      CHECK(eventually([&] { return invalidates > p + 10 && faults > f + 10; }));
    }
    stop = true;
    threads.join();
    CHECK(i.waiters() == 0);
  }
}

TEST_CASE("range: a no-wait invalidate over a fault in flight fails and leaves nothing (interleaving 21)") {
  SchemeInode i(*find_scheme("range"));
  LockedEntry e = i.tree.lock(Pgoff(5), 0, Wait::kBlock);
  InvalidateTicket t;
  CHECK_FALSE(i.scheme->enter_invalidate(from(0), Wait::kNoWait, nullptr, &t));
  CHECK_FALSE(i.tree.marked(Pgoff(5)));
  CHECK(i.tree.waiters() == 0);
  i.tree.unlock(e, Entry{});
  REQUIRE(i.scheme->enter_invalidate(from(0), Wait::kNoWait, nullptr, &t));  // the range lock was let go too
  i.scheme->leave_invalidate(&t);
}

TEST_CASE("an invalidate that waits for another can be cancelled where a range lock orders them") {
  for (const char* name : {"range", "range-only", "seqtex", "generation"}) {
    INFO(name);
    SchemeInode i(*find_scheme(name));
    InvalidateTicket first;
    REQUIRE(i.scheme->enter_invalidate(pages(0, 10), Wait::kBlock, nullptr, &first));
    CancelToken token;
    std::atomic<int> result{-1};
    std::thread second([&] {
      InvalidateTicket t;
      result = i.scheme->enter_invalidate(pages(0, 10), Wait::kBlock, &token, &t);
    });
    token.cancel();
    second.join();
    CHECK(result == 0);
    i.scheme->leave_invalidate(&first);
  }
}

TEST_CASE("isize-only: a fault that failed before it was resolved lets go of the inode") {
  SchemeInode i(*find_scheme("isize-only"));
  FaultTicket f;
  REQUIRE(i.scheme->enter_fault(pages(0, 1), Wait::kNoWait, &f));
  InvalidateTicket t;
  CHECK_FALSE(i.scheme->enter_invalidate(from(0), Wait::kNoWait, nullptr, &t));
  i.scheme->leave_fault(&f);
  REQUIRE(i.scheme->enter_invalidate(from(0), Wait::kNoWait, nullptr, &t));
  CHECK_FALSE(i.scheme->enter_fault(pages(0, 1), Wait::kNoWait, &f));
  i.scheme->leave_invalidate(&t);
}

#ifdef PMFS_PAUSE_POINTS
// Forced: the fault has read the sequence (or count) and locked its entry; a whole invalidate goes by before it checks.
TEST_CASE("seqtex and generation: a fault that a whole invalidate has overtaken starts again") {
  for (const auto& [name, point] : {std::pair{"seqtex", "seqtex:before_check"}, {"generation", "generation:before_check"}}) {
    INFO(name);
    SchemeInode i(*find_scheme(name));
    // Over another page than the fault's: nothing is drained, only the number tells.
    pause::Gate gate(point);
    std::atomic<unsigned> retries{0};
    std::thread fault([&] {
      Fault f(i, 5);
      f.begin();
      retries = f.ticket.retries;
      f.end(Entry{});
    });
    REQUIRE(gate.wait_arrived());
    InvalidateTicket t;
    REQUIRE(i.scheme->enter_invalidate(pages(20, 30), Wait::kBlock, nullptr, &t));
    i.scheme->leave_invalidate(&t);
    gate.release();
    fault.join();
    CHECK(retries == 1);
  }
}

// Forced: the invalidate has bumped; a fault that is then LOCKED must not pass its check, one that was before is waited for.
TEST_CASE("seqtex and generation: between the bump and the drain no fault passes its check") {
  for (const auto& [name, point] :
       {std::pair{"seqtex", "seqtex:odd_before_drain"}, {"generation", "generation:bumped_before_drain"}}) {
    INFO(name);
    SchemeInode i(*find_scheme(name));
    FaultTicket early;
    REQUIRE(i.scheme->enter_fault(pages(5, 6), Wait::kBlock, &early));
    pause::Gate gate(point);
    std::atomic<bool> in{false};
    std::thread invalidate([&] {
      InvalidateTicket t;
      if (!i.scheme->enter_invalidate(pages(0, 10), Wait::kBlock, nullptr, &t)) std::abort();
      in = true;
      i.scheme->leave_invalidate(&t);
    });
    REQUIRE(gate.wait_arrived());
    LockedEntry e = i.tree.lock(Pgoff(5), 0, Wait::kBlock);
    CHECK_FALSE(i.scheme->fault_locked(&early));
    gate.release();
    CHECK(eventually([&] { return i.tree.waiters() == 1; }));  // it waits for the entry all the same
    CHECK_FALSE(in);
    i.tree.unlock(e, e.value);
    i.scheme->leave_fault(&early);
    invalidate.join();
  }
}
#endif
