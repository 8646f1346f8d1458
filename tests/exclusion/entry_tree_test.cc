// One thread, entries of 4 KiB: what the states in entry_tree.h promise.
#include <catch2/catch.hpp>

#include "pmfs/base/error.h"
#include "tests/exclusion/helpers.h"

using namespace pmfs;
using namespace pmfs::exclusion;

TEST_CASE("an entry packs a block, an order and flags into one word") {
  Entry e = Entry::make(Pfn(0xfedcba9876543), kHugeOrder, Entry::kZero | Entry::kDirty | Entry::kLocked);
  CHECK(e.pfn() == Pfn(0xfedcba9876543));
  CHECK(e.order() == kHugeOrder);
  CHECK(e.pages() == 512);
  CHECK(e.present());
  CHECK(e.zero());
  CHECK(e.dirty());
  CHECK_FALSE(e.unwritten());
  CHECK_FALSE(e.shown());
  CHECK(e.flags() == (Entry::kZero | Entry::kDirty));  // LOCKED is not the caller's to set
  CHECK_FALSE((e.bits & Entry::kLocked));
  CHECK_FALSE(Entry{}.present());
}

TEST_CASE("locking an absent page makes an empty entry; unlocking stores a value") {
  LockEntryTree t(1);
  LockedEntry e = t.lock(Pgoff(5), 0, Wait::kBlock);
  REQUIRE(e);
  CHECK(e.head == Pgoff(5));
  CHECK_FALSE(e.value.present());
  CHECK_FALSE(t.peek(Pgoff(5)).present());
  CHECK(t.unlock(e, Entry::make(Pfn(77), 0, Entry::kDirty)));
  CHECK(t.peek(Pgoff(5)).pfn() == Pfn(77));
  CHECK(t.peek(Pgoff(5)).dirty());
  CHECK_FALSE(t.peek(Pgoff(4)).present());

  e = t.lock(Pgoff(5), 0, Wait::kBlock);
  CHECK(e.value.pfn() == Pfn(77));
  CHECK(t.unlock(e, Entry{}));  // absent: removed
  CHECK_FALSE(t.peek(Pgoff(5)).present());
}

TEST_CASE("the largest offset of a file has an entry, the page behind it has none") {
  LockEntryTree t(1);
  put(t, kMaxPgoff, 9);
  CHECK(t.peek(Pgoff(kMaxPgoff)).pfn() == Pfn(9));
  CHECK_THROWS_AS(t.lock(kEndOfFile, 0, Wait::kBlock), Error);
}

TEST_CASE("for_each visits the present entries of a range in order") {
  LockEntryTree t(1);
  for (uint64_t p : {3, 4, 600, 1 << 20}) put(t, p, p + 1000);
  LockedEntry empty = t.lock(Pgoff(5), 0, Wait::kBlock);
  std::vector<uint64_t> seen;
  t.for_each(pages(4, 1u << 20), [&](Pgoff head, Entry e) {
    CHECK(e.pfn().v == head.v + 1000);
    seen.push_back(head.v);
  });
  CHECK(seen == std::vector<uint64_t>{4, 600});
  t.unlock(empty, Entry{});
}

TEST_CASE("under a mark: update changes or removes, erase empties, once for each entry") {
  LockEntryTree t(1);
  for (uint64_t p = 0; p < 10; ++p) put(t, p, p);
  std::optional<Marks> m = t.mark(pages(2, 8), Wait::kBlock);
  REQUIRE(m);
  unsigned calls = 0;
  t.update(pages(2, 6), [&](Pgoff head, Entry e) {
    ++calls;
    return head.v == 3 ? Entry{} : Entry::make(e.pfn(), 0, Entry::kUnwritten);
  });
  CHECK(calls == 4);
  CHECK(t.peek(Pgoff(2)).unwritten());
  CHECK_FALSE(t.peek(Pgoff(3)).present());
  t.erase(pages(6, 8), LockEntryTree::Erase::kMarked);
  CHECK_FALSE(t.peek(Pgoff(6)).present());
  CHECK(t.peek(Pgoff(8)).present());
  t.unmark(*m);
}

TEST_CASE("an update whose function throws leaves that entry as it was, and unlocked") {
  LockEntryTree t(1);
  put(t, 1, 10);
  auto boom = [](Pgoff, Entry) -> Entry { throw std::runtime_error("boom"); };
  CHECK_THROWS(t.update(pages(0, 5), boom));
  CHECK(t.peek(Pgoff(1)).pfn() == Pfn(10));
  put(t, 1, 11);
}

TEST_CASE("a stolen entry is noticed by who held it, and its value is not stored") {
  LockEntryTree t(1);
  LockedEntry e = t.lock(Pgoff(5), 0, Wait::kBlock);
  t.erase(pages(0, 10), LockEntryTree::Erase::kSteal);
  CHECK_FALSE(t.unlock(e, Entry::make(Pfn(77), 0, 0)));
  CHECK_FALSE(t.peek(Pgoff(5)).present());
}

TEST_CASE("memory: at most 16 bytes per mapped 4 KiB page, and a small file is not charged for the upper levels") {
  LockEntryTree t(1);
  const uint64_t empty = t.memory_bytes();
  CHECK(empty < 256);
  put(t, 0, 0);
  CHECK(t.memory_bytes() < 6000);
  constexpr uint64_t kPages = 100'000;
  for (uint64_t p = 1; p < kPages; ++p) put(t, p, p);
  INFO("bytes per page: " << double(t.memory_bytes()) / kPages);
  CHECK(t.memory_bytes() <= 16 * kPages);
}
