#include <catch2/catch.hpp>

#include <map>
#include <random>

#include "pmfs/fault/fault_around.h"
#include "pmfs/fault/vma_table.h"

using namespace pmfs;
using namespace pmfs::fault;

TEST_CASE("a new mapping is all sentinel") {
  VmaTable t({Pgoff(10), Pgoff(100)});
  CHECK(t.at(Pgoff(10)).kind == VmaKind::kSentinel);
  CHECK(t.at(Pgoff(99)).pages == PageRange{Pgoff(10), Pgoff(100)});
  CHECK(t.segments() == 1);
}

TEST_CASE("assigning splits, replaces and joins") {
  VmaTable t({Pgoff(0), Pgoff(100)});
  t.assign({{Pgoff(10), Pgoff(20)}, VmaKind::kRegion, Pfn(500), false});
  CHECK(t.segments() == 3);
  CHECK(t.at(Pgoff(15)).pfn_at(Pgoff(15)) == Pfn(505));
  t.assign({{Pgoff(20), Pgoff(30)}, VmaKind::kRegion, Pfn(510), false});  // goes on where the other ends
  CHECK(t.segments() == 3);
  CHECK(t.at(Pgoff(25)).pages == PageRange{Pgoff(10), Pgoff(30)});
  t.assign({{Pgoff(14), Pgoff(16)}, VmaKind::kSentinel, Pfn(0), true});
  CHECK(t.at(Pgoff(16)).pfn_at(Pgoff(16)) == Pfn(506));
  CHECK(t.any_pending({Pgoff(10), Pgoff(30)}));
  CHECK_FALSE(t.any_pending({Pgoff(16), Pgoff(30)}));
}

TEST_CASE("widening stops at what is of another kind or pending") {
  VmaTable t({Pgoff(0), Pgoff(100)});
  t.assign({{Pgoff(10), Pgoff(12)}, VmaKind::kRegion, Pfn(1), false});
  t.assign({{Pgoff(40), Pgoff(41)}, VmaKind::kSentinel, Pfn(0), true});
  PageRange all{Pgoff(0), Pgoff(100)};
  CHECK(t.widen({Pgoff(20), Pgoff(21)}, all, VmaKind::kSentinel) == PageRange{Pgoff(12), Pgoff(40)});
  CHECK(t.widen({Pgoff(20), Pgoff(21)}, {Pgoff(18), Pgoff(25)}, VmaKind::kSentinel) == PageRange{Pgoff(18), Pgoff(25)});
}

TEST_CASE("the table agrees with a plain map, whatever is assigned") {
  constexpr uint64_t kPages = 64;
  std::mt19937_64 rng(7);
  VmaTable t({Pgoff(0), Pgoff(kPages)});
  struct Page {
    VmaKind kind = VmaKind::kSentinel;
    uint64_t pfn = 0;
    bool pending = false;
  };
  std::vector<Page> model(kPages);
  for (int step = 0; step < 20000; ++step) {
    uint64_t a = rng() % kPages, b = a + 1 + rng() % (kPages - a);
    auto kind = static_cast<VmaKind>(rng() % 3);
    uint64_t pfn = rng() % 8 * 16;
    bool pending = rng() % 4 == 0;
    t.assign({{Pgoff(a), Pgoff(b)}, kind, Pfn(pfn), pending});
    for (uint64_t i = a; i < b; ++i) model[i] = {kind, pfn + i - a, pending};
    uint64_t i = rng() % kPages;
    const VmaSegment& s = t.at(Pgoff(i));
    REQUIRE(s.pages.contains(Pgoff(i)));
    REQUIRE(s.kind == model[i].kind);
    REQUIRE(s.pending == model[i].pending);
    if (s.kind == VmaKind::kRegion) REQUIRE(s.pfn_at(Pgoff(i)).v == model[i].pfn);
  }
}

TEST_CASE("fault-around doubles on locality and falls back on jumps") {
  FaultAround f;
  uint64_t at = 1000, largest = 0;
  for (int i = 0; i < 20; ++i) {
    auto w = f.at(Pgoff(at));
    f.covered(Pgoff(at), w.install, false);
    at += w.install;
    largest = std::max(largest, w.install);
  }
  CHECK(largest == FaultAround::kMax);
  std::mt19937_64 rng(3);
  uint64_t last = 0, allocated = 0;
  for (int i = 0; i < 100; ++i) {
    Pgoff p(100000 + rng() % 100000000);
    auto w = f.at(p);
    f.covered(p, w.install, false);
    last = w.install;
    allocated = w.allocate;
  }
  CHECK(last == FaultAround::kMin);
  CHECK(allocated == 1);
}

TEST_CASE("fault-around stops where the neighbours have their PTEs, looks now and then, and comes back") {
  FaultAround f;
  std::mt19937_64 rng(3);
  const auto touch = [&](bool neighbour) {
    const Pgoff p(rng() % 100000000);
    const auto w = f.at(p);
    f.covered(p, w.install, neighbour && w.install > 1);
    return w.install;
  };
  for (uint32_t i = 0; i < FaultAround::kCrowded; ++i) CHECK(touch(true) == FaultAround::kMin);
  uint64_t looks = 0;
  for (uint32_t i = 0; i < 10 * FaultAround::kLook; ++i) looks += touch(true) > 1;
  CHECK(looks == 10);
  uint64_t after = 0;  // the neighbours are gone: the first look finds out
  while (touch(false) == 1) ++after;
  CHECK(after < FaultAround::kLook);
  CHECK(touch(false) == FaultAround::kMin);
}

// Acked mode: a revoke (2) is given while the command that maps (1) is under way. If the first answer made the pages certain, a fault
// could have another block mapped (3), which the second answer would then hide from the next revoke.
TEST_CASE("vma table: an answer says nothing of pages for which a later command is under way") {
  VmaTable t({Pgoff(0), Pgoff(100)});
  t.assign({{Pgoff(10), Pgoff(20)}, VmaKind::kRegion, Pfn(500), true, 1});
  t.assign({{Pgoff(12), Pgoff(16)}, VmaKind::kSentinel, Pfn(0), true, 2});
  t.executed({{Pgoff(10), Pgoff(20)}, VmaKind::kRegion, Pfn(500), false, 1});
  CHECK_FALSE(t.at(Pgoff(11)).pending);
  CHECK(t.at(Pgoff(11)).pfn_at(Pgoff(11)) == Pfn(501));
  CHECK(t.at(Pgoff(12)).pending);
  CHECK(t.at(Pgoff(12)).kind == VmaKind::kSentinel);
  CHECK(t.at(Pgoff(15)).pending);
  CHECK_FALSE(t.at(Pgoff(16)).pending);
  CHECK(t.at(Pgoff(16)).pfn_at(Pgoff(16)) == Pfn(506));
  t.executed({{Pgoff(12), Pgoff(16)}, VmaKind::kSentinel, Pfn(0), false, 2});
  CHECK_FALSE(t.any_pending({Pgoff(0), Pgoff(100)}));
  CHECK(t.at(Pgoff(13)).kind == VmaKind::kSentinel);
  // And the answer to the earlier one of two like commands is not the later one's.
  t.assign({{Pgoff(12), Pgoff(16)}, VmaKind::kSentinel, Pfn(0), true, 4});
  t.assign({{Pgoff(12), Pgoff(16)}, VmaKind::kSentinel, Pfn(0), true, 5});
  t.executed({{Pgoff(12), Pgoff(16)}, VmaKind::kSentinel, Pfn(0), false, 4});
  CHECK(t.at(Pgoff(13)).pending);
  t.executed({{Pgoff(12), Pgoff(16)}, VmaKind::kSentinel, Pfn(0), false, 5});
  CHECK_FALSE(t.at(Pgoff(13)).pending);
  CHECK(t.segments() == 5);
}
