// 2 MiB entries among 4 KiB entries (interleaving 10), one thread.
#include <catch2/catch.hpp>

#include "pmfs/base/error.h"
#include "tests/exclusion/helpers.h"

using namespace pmfs;
using namespace pmfs::exclusion;

TEST_CASE("2 MiB first: a 4 KiB fault inside gets the large entry, by its head") {
  LockEntryTree t(1);
  put(t, 512, 4096, kHugeOrder, Entry::kDirty);
  LockedEntry e = t.lock(Pgoff(700), 0, Wait::kBlock);
  CHECK(e.head == Pgoff(512));
  CHECK(e.value.order() == kHugeOrder);
  CHECK(e.value.pfn() == Pfn(4096));
  CHECK(t.peek(Pgoff(1023)).pfn() == Pfn(4096));
  CHECK_FALSE(t.peek(Pgoff(1024)).present());
  t.unlock(e, e.value);
}

TEST_CASE("4 KiB first: a 2 MiB fault there gets an entry of order 0") {
  LockEntryTree t(1);
  put(t, 700, 9);
  LockedEntry e = t.lock(Pgoff(600), kHugeOrder, Wait::kBlock);
  CHECK(e.head == Pgoff(600));
  CHECK(e.value.order() == 0);
  t.unlock(e, Entry{});
}

TEST_CASE("an empty 2 MiB entry knows its order and can be removed again") {
  LockEntryTree t(1);
  LockedEntry e = t.lock(Pgoff(513), kHugeOrder, Wait::kBlock);
  CHECK(e.head == Pgoff(512));
  CHECK(e.value.order() == kHugeOrder);
  CHECK_FALSE(e.value.present());
  t.unlock(e, Entry{});
  e = t.lock(Pgoff(513), 0, Wait::kBlock);  // nothing stayed behind
  CHECK(e.value.order() == 0);
  t.unlock(e, Entry{});
}

TEST_CASE("a value of another order than the entry's is refused") {
  LockEntryTree t(1);
  LockedEntry e = t.lock(Pgoff(0), kHugeOrder, Wait::kBlock);
  CHECK_THROWS_AS(t.unlock(e, Entry::make(Pfn(1), 0, 0)), Error);
  t.unlock(e, Entry{});
}

TEST_CASE("a large entry splits into 512 with the same flags and consecutive blocks; one of them stays locked") {
  LockEntryTree t(1);
  put(t, 512, 4096, kHugeOrder, Entry::kUnwritten);
  LockedEntry e = t.split(t.lock(Pgoff(700), 0, Wait::kBlock), Pgoff(700));
  REQUIRE(e);
  CHECK(e.head == Pgoff(700));
  CHECK(e.value.order() == 0);
  CHECK(e.value.pfn() == Pfn(4096 + 700 - 512));
  CHECK(e.value.unwritten());
  CHECK_FALSE(t.lock(Pgoff(700), 0, Wait::kNoWait));
  LockedEntry other = t.lock(Pgoff(701), 0, Wait::kNoWait);
  CHECK(other.value.pfn() == Pfn(4096 + 701 - 512));
  t.unlock(other, other.value);
  t.unlock(e, e.value);
  unsigned n = 0;
  t.for_each(pages(0, 2048), [&](Pgoff head, Entry v) {
    CHECK(v.pfn().v == 4096 + head.v - 512);
    ++n;
  });
  CHECK(n == 512);
}

TEST_CASE("an empty large entry (a zero hole) splits into one locked page and nothing else") {
  LockEntryTree t(1);
  LockedEntry e = t.split(t.lock(Pgoff(3), kHugeOrder, Wait::kBlock), Pgoff(3));
  CHECK_FALSE(e.value.present());
  t.unlock(e, Entry::make(Pfn(8), 0, 0));
  unsigned n = 0;
  t.for_each(pages(0, 512), [&](Pgoff, Entry) { ++n; });
  CHECK(n == 1);
}

TEST_CASE("splitting an entry of order 0 changes nothing; a stolen one gives null") {
  LockEntryTree t(1);
  LockedEntry e = t.lock(Pgoff(3), 0, Wait::kBlock);
  CHECK(t.split(e, Pgoff(3)).slot == e.slot);
  t.unlock(e, Entry{});
  e = t.lock(Pgoff(1024), kHugeOrder, Wait::kBlock);
  t.erase(pages(1024, 1025), LockEntryTree::Erase::kSteal);
  CHECK_FALSE(t.split(e, Pgoff(1030)));
  CHECK_FALSE(t.peek(Pgoff(1030)).present());
}

TEST_CASE("a mark that ends inside a large entry splits it, and only the covered pages go") {
  LockEntryTree t(1);
  put(t, 512, 4096, kHugeOrder);
  put(t, 1024, 8192, kHugeOrder);
  put(t, 1536, 9216, kHugeOrder);
  std::optional<Marks> m = t.mark(pages(700, 1600), Wait::kBlock);
  REQUIRE(m);
  CHECK(t.peek(Pgoff(699)).order() == 0);
  CHECK(t.peek(Pgoff(1100)).order() == kHugeOrder);  // wholly inside: stays whole
  CHECK(t.peek(Pgoff(1600)).order() == 0);
  t.erase(m->range, LockEntryTree::Erase::kMarked);
  t.unmark(*m);
  CHECK(t.peek(Pgoff(699)).pfn() == Pfn(4096 + 187));
  for (uint64_t p : {700, 1023, 1024, 1535, 1599}) CHECK_FALSE(t.peek(Pgoff(p)).present());
  CHECK(t.peek(Pgoff(1600)).pfn() == Pfn(9216 + 64));
}

TEST_CASE("a punch in the middle of one large entry splits it once") {
  LockEntryTree t(1);
  put(t, 0, 4096, kHugeOrder);
  std::optional<Marks> m = t.mark(pages(100, 200), Wait::kBlock);
  REQUIRE(m);
  t.erase(m->range, LockEntryTree::Erase::kMarked);
  t.unmark(*m);
  unsigned n = 0;
  t.for_each(pages(0, 512), [&](Pgoff, Entry) { ++n; });
  CHECK(n == 412);
}

TEST_CASE("a mark over a whole large entry shuts out faults at every page of it") {
  LockEntryTree t(1);
  put(t, 512, 4096, kHugeOrder);
  std::optional<Marks> m = t.mark(pages(512, 1024), Wait::kBlock);
  REQUIRE(m);
  for (uint64_t p : {512, 700, 1023}) CHECK_FALSE(t.lock(Pgoff(p), 0, Wait::kNoWait));
  LockedEntry next = t.lock(Pgoff(1024), 0, Wait::kNoWait);
  CHECK(next);
  t.unlock(next, Entry{});
  t.unmark(*m);
}
