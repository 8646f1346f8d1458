// The checker is itself checked: each way of breaking the order must reach the handler, and nothing else may.
// The locks are static so that no two of them ever share an address: the thread sanitizer keeps an order of its own.
#include <catch2/catch.hpp>

#include "pmfs/base/mutex.h"

#ifdef PMFS_DEBUG_LOCKS

#include <string>
#include <thread>
#include <vector>

using namespace pmfs;

namespace {

std::vector<std::string> g_seen;
void record(const char* message) { g_seen.emplace_back(message); }

// Collects violations while it lives, instead of aborting.
struct Catcher {
  Catcher() : previous(lock_order::set_handler(record)) { g_seen.clear(); }
  ~Catcher() { lock_order::set_handler(previous); }
  size_t count() const { return g_seen.size(); }
  bool last_has(const char* text) const { return !g_seen.empty() && g_seen.back().find(text) != std::string::npos; }
  lock_order::Handler previous;
};

int dummy[4];

}  // namespace

TEST_CASE("locks taken outermost first raise nothing, released in any order") {
  Catcher c;
  static Mutex outer(LockRank::kNamespace, "outer"), mid(LockRank::kRange, "mid"), inner(LockRank::kMeta, "inner");
  outer.Lock();
  mid.Lock();
  inner.Lock();
  outer.Unlock();
  inner.Unlock();
  mid.Unlock();
  CHECK(c.count() == 0);
}

TEST_CASE("a lock of a lower rank under a higher one is a violation that names both and the held stack") {
  Catcher c;
  static Mutex outer(LockRank::kNamespace, "the directory tree"), inner(LockRank::kMeta, "the transaction");
  inner.Lock();
  outer.Lock();
  CHECK(c.count() == 1);
  CHECK(c.last_has("the directory tree"));
  CHECK(c.last_has("the transaction"));
  CHECK(c.last_has("held, outermost first"));
  outer.Unlock();
  inner.Unlock();
}

TEST_CASE("order is checked against every held lock, not only the last") {
  Catcher c;
  static Mutex meta(LockRank::kMeta, "meta"), low(LockRank::kServer, "low"), range(LockRank::kRange, "range");
  meta.Lock();
  if (low.TryLock()) {  // recorded above meta on the stack
    range.Lock();       // fine after `low`, but not after `meta`
    CHECK(c.count() == 1);
    CHECK(c.last_has("\"meta\""));
    range.Unlock();
    low.Unlock();
  }
  meta.Unlock();
  CHECK(c.count() == 1);
}

TEST_CASE("locks of equal rank: in key order only") {
  Catcher c;
  static Mutex a(LockRank::kInodeOp, "inode", 7), b(LockRank::kInodeOp, "inode", 9);
  static Mutex twin(LockRank::kInodeOp, "inode", 9), lower(LockRank::kInodeOp, "inode", 3);
  a.Lock();
  b.Lock();
  CHECK(c.count() == 0);
  twin.Lock();  // an equal key is no order either
  CHECK(c.count() == 1);
  twin.Unlock();
  a.Unlock();
  lower.Lock();  // 9 is held, 3 asked for
  CHECK(c.count() == 2);
  lower.Unlock();
  b.Unlock();
}

TEST_CASE("equal keys are ordered by the minor key") {
  Catcher c;
  lock_order::acquired(&dummy[0], LockRank::kRange, 5, "range", true, 10);
  lock_order::acquired(&dummy[1], LockRank::kRange, 5, "range", true, 20);
  lock_order::acquired(&dummy[2], LockRank::kRange, 6, "range", true, 0);
  CHECK(c.count() == 0);
  lock_order::released(&dummy[2]);
  lock_order::acquired(&dummy[3], LockRank::kRange, 5, "range", true, 15);
  CHECK(c.count() == 1);
  for (int i : {0, 1, 3}) lock_order::released(&dummy[i]);
}

TEST_CASE("acquiring a lock one already holds is a violation") {
  Catcher c;
  lock_order::acquired(&dummy[0], LockRank::kEntry, 1, "entry", true);
  lock_order::about_to_block(&dummy[0], LockRank::kEntry, 1, "entry");  // before the sleep that would never end
  CHECK(c.count() == 1);
  CHECK(c.last_has("already held"));
  lock_order::released(&dummy[0]);
}

TEST_CASE("releasing a lock one doesn't hold is a violation") {
  Catcher c;
  lock_order::released(&dummy[0]);
  CHECK(c.count() == 1);
}

TEST_CASE("a try-acquire can't deadlock: no order asked, but recorded as held") {
  Catcher c;
  static Mutex outer(LockRank::kNamespace, "outer"), inner(LockRank::kMeta, "inner");
  inner.Lock();
  bool recorded = false;
  if (outer.TryLock()) {
    recorded = lock_order::held(&outer);
    outer.Unlock();
  }
  inner.Unlock();
  CHECK(recorded);
  CHECK(c.count() == 0);
}

TEST_CASE("the held stack: held, holds_any, assert_none_held") {
  Catcher c;
  static Mutex m(LockRank::kMeta, "m");
  CHECK_FALSE(lock_order::held(&m));
  lock_order::assert_none_held("waiting for a client");
  CHECK(c.count() == 0);
  {
    MutexLock l(m);
    CHECK(lock_order::held(&m));
    CHECK(lock_order::holds_any(LockRank::kMeta));
    CHECK_FALSE(lock_order::holds_any(LockRank::kRange));
    lock_order::assert_none_held("waiting for a client");
    CHECK(c.count() == 1);
    CHECK(c.last_has("waiting for a client"));
  }
  CHECK_FALSE(lock_order::holds_any(LockRank::kMeta));
}

TEST_CASE("what one thread holds is nothing to another") {
  Catcher c;
  static Mutex inner(LockRank::kMeta, "inner"), outer(LockRank::kNamespace, "outer");
  MutexLock l(inner);
  bool held = true;
  std::thread([&] {
    MutexLock o(outer);
    held = lock_order::held(&inner);
  }).join();
  CHECK_FALSE(held);
  CHECK(c.count() == 0);
}

TEST_CASE("readers are in the order too") {
  Catcher c;
  static SharedMutex table(LockRank::kInodeCache, "table");
  static Mutex outer(LockRank::kRange, "outer");
  ReaderLock r(table);
  outer.Lock();
  CHECK(c.count() == 1);
  outer.Unlock();
}

#endif  // PMFS_DEBUG_LOCKS
