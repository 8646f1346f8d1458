// Threads at random on few pages. The witnesses are plain variables: if two holders overlap, counts get lost, and the
// thread sanitizer names the two accesses.
#include <catch2/catch.hpp>

#include <array>
#include <atomic>
#include <random>

#include "pmfs/base/pause.h"
#include "tests/exclusion/helpers.h"

using namespace pmfs;
using namespace pmfs::exclusion;

namespace {

constexpr uint64_t kHuge = 3, kPages = kHuge * 512;

struct Witness {
  std::array<uint64_t, kPages> count{};  // not atomic
};

// One fault: locks, perhaps splits, touches what the entry covers around p, and leaves some value.
uint64_t fault(LockEntryTree& t, Witness& w, std::mt19937_64& rng, uint64_t p, unsigned order, Wait wait) {
  LockedEntry e = t.lock(Pgoff(p), order, wait);
  if (!e) return 0;
  if (e.value.order() != 0 && rng() % 16 == 0) e = t.split(e, Pgoff(p));
  const uint64_t end = std::min<uint64_t>(kPages, e.head.v + e.value.pages());
  uint64_t touched = 0;
  for (uint64_t i = p; i < std::min(end, p + 4); ++i, ++touched) ++w.count[i];
  Entry v;
  if (rng() % 2 == 0) v = Entry::make(Pfn(e.head.v + 1'000'000 * 512), e.value.order(), 0);
  if (!t.unlock(e, v)) std::abort();  // nobody steals here
  return touched;
}

}  // namespace

TEST_CASE("faults of both orders, splits and marks exclude each other") {
  pause::g_jitter = 64;
  LockEntryTree t(1);
  RangeLock ranges(1);
  Witness w;
  std::atomic<uint64_t> touched{0}, refused{0};
  Threads threads;
  for (uint64_t n = 0; n < 4; ++n) {
    threads.run([&, n] {
      std::mt19937_64 rng(n);
      uint64_t mine = 0;
      for (int i = 0; i < 4000; ++i) {
        const uint64_t p = rng() % 4 ? rng() % 8 : rng() % kPages;
        mine += fault(t, w, rng, p, rng() % 8 ? 0 : kHugeOrder, rng() % 4 ? Wait::kBlock : Wait::kNoWait);
      }
      touched += mine;
    });
  }
  for (uint64_t n = 0; n < 2; ++n) {
    threads.run([&, n] {
      std::mt19937_64 rng(100 + n);
      uint64_t mine = 0;
      for (int i = 0; i < 500; ++i) {
        const uint64_t a = rng() % 2 ? rng() % 8 : rng() % kPages;
        const PageRange r = rng() % 4 == 0 ? from(a) : pages(a, std::min(kPages, a + 1 + rng() % 600));
        const Wait wait = rng() % 2 ? Wait::kBlock : Wait::kNoWait;
        RangeLock::Ticket ticket = ranges.Lock(r, RangeMode::kExclusive);
        if (std::optional<Marks> m = t.mark(r, wait)) {
          for (uint64_t p = r.first.v; p < std::min(kPages, r.end.v); ++p, ++mine) ++w.count[p];
          t.erase(r, LockEntryTree::Erase::kMarked);
          t.for_each(r, [](Pgoff, Entry) { std::abort(); });
          t.unmark(*m);
        } else {
          ++refused;
        }
        ranges.Unlock(ticket);
      }
      touched += mine;
    });
  }
  threads.join();
  pause::g_jitter = 0;
  uint64_t sum = 0;
  for (uint64_t c : w.count) sum += c;
  CHECK(sum == touched);
  CHECK(t.waiters() == 0);
  for (uint64_t p = 0; p < kPages; ++p) REQUIRE_FALSE(t.marked(Pgoff(p)));
  INFO("marks refused: " << refused);
}

TEST_CASE("entries keep the blocks their holders stored, through updates and splits") {
  LockEntryTree t(1);
  Threads threads;
  std::atomic<uint64_t> wrong{0};
  // Page p always maps block p or block p + kPages; large entries map the same blocks.
  auto right = [](Pgoff head, Entry v) { return v.pfn().v == head.v || v.pfn().v == head.v + kPages; };
  for (uint64_t n = 0; n < 3; ++n) {
    threads.run([&, n] {
      std::mt19937_64 rng(n);
      for (int i = 0; i < 3000; ++i) {
        LockedEntry e = t.lock(Pgoff(rng() % kPages), rng() % 4 ? 0 : kHugeOrder, Wait::kBlock);
        if (e.value.present() && !right(e.head, e.value)) ++wrong;
        t.unlock(e, Entry::make(Pfn(e.head.v + (rng() % 2) * kPages), e.value.order(), 0));
      }
    });
  }
  threads.run([&] {
    std::mt19937_64 rng(9);
    for (int i = 0; i < 300; ++i) {
      const uint64_t a = rng() % kPages;
      const PageRange r = pages(a, std::min(kPages, a + 1 + rng() % 300));
      std::optional<Marks> m = t.mark(r, Wait::kBlock);
      t.update(r, [&](Pgoff head, Entry v) {
        if (v.present() && !right(head, v)) ++wrong;
        return head.v % 7 == 0 ? Entry{} : v;
      });
      t.unmark(*m);
    }
  });
  threads.join();
  t.for_each(from(0), [&](Pgoff head, Entry v) { wrong += !right(head, v); });
  CHECK(wrong == 0);
}
