// collapse_range, insert_range and replace_extent of the store, against an array of pages.
#include <map>
#include <random>

#include "tests/meta/meta_fixture.h"

namespace pmfs::meta::test {
namespace {

using Model = std::map<uint64_t, std::pair<uint64_t, bool>>;  // page -> block, unwritten

Model read(Volume& v, Ino ino) {
  Model m;
  for (const FileExtent& e : v->extents(ino, kWholeFile, SIZE_MAX))
    for (uint64_t k = 0; k < e.count; ++k) m[e.pgoff.v + k] = {e.pfn.v + k, e.unwritten};
  return m;
}

void finish(Volume& v, const Removed& r) {
  if (r.id != 0) v->finish_free(r.id);
}

TEST_CASE("collapse moves what is behind down, joins what then touches, and gives the range's blocks back") {
  Volume v;
  Ino f = v.file("f");
  Extent e = v->reserve(Pfn(0), 30, 1);
  v->commit_extent(f, {Pgoff(0), e.first, 10, false}, uint64_t{30} * 4096);
  v->commit_extent(f, {Pgoff(20), e.first + 10, 10, false}, std::nullopt);  // what follows on the media
  v->unreserve({e.first + 20, 10});
  SECTION("of a hole: one extent is left") {
    Removed r = v->collapse_range(f, pages(10, 20), uint64_t{20} * 4096);
    CHECK(r.id == 0);
    auto all = v->extents(f, kWholeFile, 10);
    REQUIRE(all.size() == 1);
    CHECK(all[0] == FileExtent{Pgoff(0), e.first, 20, false});
    CHECK(v->getattr(f).size == 20 * 4096);
  }
  SECTION("of parts of both") {
    Removed r = v->collapse_range(f, pages(5, 25), uint64_t{10} * 4096);
    CHECK(r.extents.size() == 2);
    CHECK(v->space().blocks_deferred == 10);
    finish(v, r);
    CHECK(v->space().blocks_used == 10);
    Model m = read(v, f);
    REQUIRE(m.size() == 10);
    CHECK(m[4].first == e.first.v + 4);
    CHECK(m[5].first == e.first.v + 15);
  }
  SECTION("of all in front") {
    finish(v, v->collapse_range(f, pages(0, 20), uint64_t{10} * 4096));
    CHECK(read(v, f).at(0).first == e.first.v + 10);
  }
}

TEST_CASE("insert splits an extent and moves the rest up; beyond the largest file it is EFBIG and changes nothing") {
  Volume v;
  Ino f = v.file("f");
  FileExtent e = v.add(f, 0, 10);
  v->grow_size(f, 10 * 4096);
  v->insert_range(f, Pgoff(4), 7, 17 * 4096);
  auto all = v->extents(f, kWholeFile, 10);
  REQUIRE(all.size() == 2);
  CHECK(all[0] == FileExtent{Pgoff(0), e.pfn, 4, false});
  CHECK(all[1] == FileExtent{Pgoff(11), e.pfn + 4, 6, false});
  CHECK(v->getattr(f).size == 17 * 4096);
  finish(v, v->collapse_range(f, pages(4, 11), 10 * 4096));  // and back
  all = v->extents(f, kWholeFile, 10);
  REQUIRE(all.size() == 1);
  CHECK(all[0] == e);
  CHECK(error_of([&] { v->insert_range(f, Pgoff(1), kMaxPgoff, 1); }) == EFBIG);
  CHECK(error_of([&] { v->insert_range(f, Pgoff(1), 5, kMaxFileBytes + 1); }) == EFBIG);
  v.add(f, kMaxPgoff, 1);  // preallocated at the very end
  CHECK(error_of([&] { v->insert_range(f, Pgoff(1), 1, 11 * 4096); }) == EFBIG);
  CHECK(v->extents(f, kWholeFile, 10)[0] == e);
}

TEST_CASE("whatever is collapsed and inserted, the map agrees with an array; over reopens") {
  for (uint32_t seed : {1u, 2u}) {
    Volume v(262144);
    Ino f = v.file("f");
    Model model;
    std::mt19937 rng(seed);
    constexpr uint64_t kPages = 6000;  // several levels of index: every other page is an extent of its own
    auto fill = [&](uint64_t p) {
      if (model.contains(p)) return;
      FileExtent e = v.add(f, p, 1, rng() % 4 == 0);
      model[p] = {e.pfn.v, e.unwritten};
    };
    for (uint64_t p = 0; p < kPages; p += 2) fill(p);
    for (int step = 0; step < 150; ++step) {
      CAPTURE(seed, step);
      uint64_t at = rng() % kPages, n = 1 + (rng() % 4 == 0 ? rng() % 1500 : rng() % 20);
      Model next;
      if (rng() % 2 == 0) {
        finish(v, v->collapse_range(f, pages(at, at + n), 1));
        for (auto& [p, b] : model)
          if (p < at || p >= at + n) next[p < at ? p : p - n] = b;
      } else {
        v->insert_range(f, Pgoff(at), n, 1);
        for (auto& [p, b] : model) next[p < at ? p : p + n] = b;
      }
      model = std::move(next);
      for (int k = 0; k < 30; ++k) fill(rng() % kPages);
      if (rng() % 3 == 0) {  // leaves stale separators behind
        uint64_t from = rng() % kPages, to = from + rng() % 200;
        v.free(f, pages(from, to));
        model.erase(model.lower_bound(from), model.lower_bound(to));
      }
      REQUIRE(read(v, f) == model);
      if (step % 25 == 24) {
        auto findings = v->check();
        for (auto& x : findings) UNSCOPED_INFO(x);
        REQUIRE(findings.empty());
        v.reopen();
      }
    }
    REQUIRE(v->getattr(f).blocks == model.size());
  }
}

TEST_CASE("a shift that doesn't fit a full pool is ENOSPC and changes nothing") {
  Volume v(262144, 8 << 20);
  Ino f = v.file("f"), g = v.file("g");
  for (uint64_t p = 0; p < 12000; p += 2) v.add(f, p, 1);
  Model before = read(v, f);
  for (uint64_t p = 0; error_of([&] { v.add(g, p, 1); }) == 0; p += 2) {
  }
  int err = error_of([&] { v->insert_range(f, Pgoff(0), 1, 1); });
  CHECK((err == 0 || err == ENOSPC));
  if (err != 0) CHECK(read(v, f) == before);
  CHECK(v->check().empty());
}

TEST_CASE("replace_extent: other blocks in one step, the old ones deferred") {
  Volume v;
  Ino f = v.file("f");
  FileExtent e = v.add(f, 0, 10);
  Extent n = v->reserve(Pfn(1000), 3, 1);
  Removed r = v->replace_extent(f, {Pgoff(4), n.first, 3, false});
  REQUIRE(r.extents.size() == 1);
  CHECK(r.extents[0] == Extent{e.pfn + 4, 3});
  CHECK(v->block_state(e.pfn + 4) == BlockState::kDeferred);
  CHECK(v->block_state(n.first) == BlockState::kUsed);
  CHECK(v->getattr(f).blocks == 10);
  CHECK(v->extents(f, kWholeFile, 10).size() == 3);
  v.reopen();
  CHECK(v->deferred().size() == 1);
  finish(v, v->deferred()[0]);
  CHECK(v->space().blocks_used == 10);
  CHECK(error_of([&] { v->replace_extent(f, {Pgoff(0), Pfn(5000), 1, false}); }) == EINVAL);  // not reserved
}

}  // namespace
}  // namespace pmfs::meta::test
