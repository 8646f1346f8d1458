// Every scheme is asked the same questions. The sound ones must answer yes; those broken on purpose must be caught.
#include <catch2/catch.hpp>

#include <atomic>

#include "pmfs/base/pause.h"
#include "tests/exclusion/helpers.h"

using namespace pmfs;
using namespace pmfs::exclusion;

namespace {

struct Inode {
  explicit Inode(const SchemeInfo& s) : tree(1), scheme(s.make(tree, 1)) {}
  LockEntryTree tree;
  std::unique_ptr<Scheme> scheme;
};

// A fault stands between its lookup and its install when an invalidate of that page comes. Was the invalidate let in?
// The fault goes on when either the invalidate is in, or it is asleep in the drain: both are states, not times.
bool invalidate_meets_fault(const SchemeInfo& s) {
  Inode i(s);
  std::atomic<bool> looked_up{false}, installed{false}, entered{false}, met{false};
  std::thread fault([&] {
    FaultTicket t;
    i.scheme->enter_fault(pages(5, 6), Wait::kBlock, &t);
    LockedEntry e = i.tree.lock(Pgoff(5), 0, Wait::kBlock);
    i.scheme->fault_resolved(&t);
    looked_up = true;
    eventually([&] { return entered || i.tree.waiters() > 0; });
    installed = true;
    i.tree.unlock(e, Entry::make(Pfn(7), 0, 0));
    i.scheme->leave_fault(&t);
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

// Faults and invalidates at random; how often did an invalidate see a fault between lookup and install?
uint64_t overlaps(const SchemeInfo& s, int rounds) {
  pause::g_jitter = 8;
  Inode i(s);
  std::atomic<int> between{0}, faulting{3};
  std::atomic<uint64_t> seen{0};
  Threads threads;
  for (int n = 0; n < 3; ++n) {
    threads.run([&, n] {
      for (int r = 0; r < rounds; ++r) {
        FaultTicket t;
        i.scheme->enter_fault(pages(5, 6), Wait::kBlock, &t);
        LockedEntry e = i.tree.lock(Pgoff(5 + n), 0, Wait::kBlock);
        ++between;
        i.scheme->fault_resolved(&t);
        PMFS_PAUSE_POINT("test:between_lookup_and_install");
        if (r % 16 == 0) std::this_thread::yield();
        --between;
        i.tree.unlock(e, Entry{});
        i.scheme->leave_fault(&t);
      }
      --faulting;
    });
  }
  threads.run([&] {
    while (faulting > 0) {
      InvalidateTicket t;
      if (!i.scheme->enter_invalidate(from(0), Wait::kBlock, nullptr, &t)) std::abort();
      if (between != 0) ++seen;
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
    CHECK(Inode(s).scheme->name() == s.name);
  }
  CHECK_FALSE(find_scheme("none")->sound);
  CHECK_FALSE(find_scheme("isize-only")->sound);
}

TEST_CASE("an invalidate and a fault between lookup and install: sound schemes keep them apart, broken ones don't") {
  for (const SchemeInfo& s : schemes()) {
    INFO(s.name);
    CHECK(invalidate_meets_fault(s) == !s.sound);
  }
}

TEST_CASE("the same at random: never for a sound scheme, soon for a broken one") {
  for (const SchemeInfo& s : schemes()) {
    INFO(s.name);
    if (s.sound) {
      CHECK(overlaps(s, 2000) == 0);
    } else {
      uint64_t seen = 0;
      for (int attempt = 0; attempt < 50 && seen == 0; ++attempt) seen = overlaps(s, 500);
      CHECK(seen > 0);
    }
  }
}

TEST_CASE("two invalidates of one range exclude each other under every scheme") {
  for (const SchemeInfo& s : schemes()) {
    INFO(s.name);
    Inode i(s);
    InvalidateTicket a, b;
    REQUIRE(i.scheme->enter_invalidate(pages(0, 10), Wait::kBlock, nullptr, &a));
    CHECK_FALSE(i.scheme->enter_invalidate(pages(5, 6), Wait::kNoWait, nullptr, &b));
    i.scheme->leave_invalidate(&a);
    REQUIRE(i.scheme->enter_invalidate(pages(5, 6), Wait::kNoWait, nullptr, &b));
    i.scheme->leave_invalidate(&b);
  }
}

TEST_CASE("range: a no-wait invalidate over a fault in flight fails and leaves nothing (interleaving 21)") {
  Inode i(*find_scheme("range"));
  LockedEntry e = i.tree.lock(Pgoff(5), 0, Wait::kBlock);
  InvalidateTicket t;
  CHECK_FALSE(i.scheme->enter_invalidate(from(0), Wait::kNoWait, nullptr, &t));
  CHECK_FALSE(i.tree.marked(Pgoff(5)));
  CHECK(i.tree.waiters() == 0);
  i.tree.unlock(e, Entry{});
  REQUIRE(i.scheme->enter_invalidate(from(0), Wait::kNoWait, nullptr, &t));  // the range lock was let go too
  i.scheme->leave_invalidate(&t);
}

TEST_CASE("range: faults beside an invalidate go on") {
  Inode i(*find_scheme("range"));
  InvalidateTicket t;
  REQUIRE(i.scheme->enter_invalidate(pages(0, 10), Wait::kBlock, nullptr, &t));
  LockedEntry e = i.tree.lock(Pgoff(10), 0, Wait::kNoWait);
  CHECK(e);
  i.tree.unlock(e, Entry{});
  i.scheme->leave_invalidate(&t);
}

TEST_CASE("range: an invalidate that waits for another can be cancelled") {
  Inode i(*find_scheme("range"));
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

TEST_CASE("isize-only: a fault that failed before it was resolved lets go of the inode") {
  Inode i(*find_scheme("isize-only"));
  FaultTicket f;
  REQUIRE(i.scheme->enter_fault(pages(0, 1), Wait::kNoWait, &f));
  InvalidateTicket t;
  CHECK_FALSE(i.scheme->enter_invalidate(from(0), Wait::kNoWait, nullptr, &t));
  i.scheme->leave_fault(&f);
  REQUIRE(i.scheme->enter_invalidate(from(0), Wait::kNoWait, nullptr, &t));
  CHECK_FALSE(i.scheme->enter_fault(pages(0, 1), Wait::kNoWait, &f));
  i.scheme->leave_invalidate(&t);
}
