// The lock-order checker sees entries and range locks.
#include <catch2/catch.hpp>

#ifdef PMFS_DEBUG_LOCKS

#include <atomic>

#include "tests/exclusion/helpers.h"

using namespace pmfs;
using namespace pmfs::exclusion;

namespace {
std::atomic<int> g_violations{0};
struct Catcher {
  Catcher() : previous(lock_order::set_handler([](const char*) { ++g_violations; })) { g_violations = 0; }
  ~Catcher() { lock_order::set_handler(previous); }
  lock_order::Handler previous;
};
}  // namespace

TEST_CASE("entries are on the held stack while they are locked, a split one under its new slot") {
  LockEntryTree t(1);
  LockedEntry e = t.lock(Pgoff(0), kHugeOrder, Wait::kBlock);
  CHECK(lock_order::held(e.slot));
  LockedEntry small = t.split(e, Pgoff(9));
  CHECK_FALSE(lock_order::held(e.slot));
  CHECK(lock_order::held(small.slot));
  t.unlock(small, Entry{});
  CHECK_FALSE(lock_order::holds_any(LockRank::kEntry));
}

TEST_CASE("a second entry of an inode may be tried, not waited for; entries of other inodes in ino order") {
  Catcher c;
  LockEntryTree a(1), b(2);
  LockedEntry e = a.lock(Pgoff(5), 0, Wait::kBlock);
  LockedEntry tried = a.lock(Pgoff(6), 0, Wait::kNoWait);
  LockedEntry higher = b.lock(Pgoff(0), 0, Wait::kBlock);
  CHECK(g_violations == 0);
  LockedEntry waited = a.lock(Pgoff(7), 0, Wait::kBlock);
  CHECK(g_violations > 0);
  a.unlock(waited, Entry{});
  b.unlock(higher, Entry{});
  a.unlock(tried, Entry{});
  a.unlock(e, Entry{});
}

TEST_CASE("a range lock under an entry is a violation; the other way round is the order") {
  Catcher c;
  LockEntryTree t(1);
  RangeLock l(1);
  RangeLock::Ticket r = l.Lock(pages(0, 10), RangeMode::kExclusive);
  LockedEntry e = t.lock(Pgoff(20), 0, Wait::kBlock);
  CHECK(g_violations == 0);
  RangeLock::Ticket second = l.Lock(pages(30, 40), RangeMode::kExclusive);
  CHECK(g_violations == 1);
  l.Unlock(second);
  t.unlock(e, Entry{});
  second = l.Lock(pages(30, 40), RangeMode::kExclusive);  // of one inode, by first page
  CHECK(g_violations == 1);
  l.Unlock(second);
  l.Unlock(r);
}

TEST_CASE("a mark while holding an entry of the inode is a violation when it would wait for itself") {
  LockEntryTree t(1);
  LockedEntry e = t.lock(Pgoff(5), 0, Wait::kBlock);
  Catcher c;
  std::thread helper;
  static LockEntryTree* tree;
  static LockedEntry* mine;
  tree = &t;
  mine = &e;
  // The handler breaks the deadlock the checker has just named.
  lock_order::set_handler([](const char*) {
    ++g_violations;
    mine->slot->fetch_and(~Entry::kLocked);
  });
  std::optional<Marks> m = tree->mark(pages(0, 10), Wait::kBlock);
  CHECK(g_violations == 1);
  lock_order::set_handler([](const char*) {});
  t.unlock(e, Entry{});
  t.erase(pages(0, 10), LockEntryTree::Erase::kMarked);
  t.unmark(*m);
}

#endif  // PMFS_DEBUG_LOCKS
