// Blocks of several owners: counts, and what becomes of them when owners go.
#include <map>
#include <random>

#include "tests/meta/meta_fixture.h"
#include "tests/meta/pool_image.h"

namespace pmfs::meta::test {
namespace {

void clone(Volume& v, Ino from, PageRange r, Ino to, uint64_t at) {
  for (Pgoff p = r.first; p < r.end;) {
    Shared s = v->share_extents(from, {p, r.end}, to, Pgoff(at + (p - r.first)), std::nullopt);
    if (s.removed.id != 0) v->finish_free(s.removed.id);
    REQUIRE(s.next > p);
    p = s.next;
  }
}

TEST_CASE("a shared block is free when its last owner is gone, not before; over reopens") {
  Volume v;
  Ino f = v.file("f"), g = v.file("g"), h = v.file("h");
  FileExtent e = v.add(f, 0, 10);
  v.add(f, 10, 2, true);  // unwritten: a hole in the clone
  clone(v, f, pages(0, 12), g, 100);
  CHECK(v->getattr(g).blocks == 10);
  CHECK(v->space().blocks_used == 12);
  auto x = v->extents(g, kWholeFile, 10);
  REQUIRE(x.size() == 1);
  CHECK(x[0] == FileExtent{Pgoff(100), e.pfn, 10, false, true});
  CHECK(v->extents(f, kWholeFile, 10)[0].shared);
  CHECK(v->check().empty());
  clone(v, g, pages(103, 106), h, 0);  // three owners
  v.reopen();
  CHECK(v->check().empty());
  CHECK_FALSE(v->unshare(f, pages(0, 10)));
  Removed r = v->remove_extents(f, pages(0, 10), std::nullopt);
  CHECK(r.id != 0);
  CHECK(r.extents.empty());  // nothing to zap
  CHECK(v->check().empty());  // on the deferred-free list it still counts as an owner
  CHECK_FALSE(v->unshare(g, pages(100, 103)));
  v.reopen();
  CHECK(v->finish_free(r.id).empty());
  CHECK(v->space().blocks_used == 12);
  CHECK(v->unshare(g, pages(100, 103)));
  CHECK_FALSE(v->lookup_extent(g, Pgoff(100))->shared);
  CHECK_FALSE(v->unshare(g, pages(102, 104)));  // the second is h's too
  CHECK(v->lookup_extent(g, Pgoff(103))->shared);
  r = v->remove_extents(g, kWholeFile, std::nullopt);
  REQUIRE(r.extents.size() == 1);  // what was its own by now
  CHECK(r.extents[0] == Extent{e.pfn, 3});
  std::vector<Extent> last = v->finish_free(r.id);  // and what was shared once, but with nobody any more
  REQUIRE(last.size() == 1);
  CHECK(last[0] == Extent{e.pfn + 6, 4});
  CHECK(v->space().blocks_used == 5);
  r = v->remove_extents(h, kWholeFile, std::nullopt);
  CHECK(v->finish_free(r.id).size() == 1);
  v.free(f, kWholeFile);
  CHECK(v->space().blocks_free == v->space().blocks_total);
}

TEST_CASE("a clone replaces what its target had, and may be within one file") {
  Volume v;
  Ino f = v.file("f"), g = v.file("g");
  FileExtent e = v.add(f, 0, 4);
  v.add(g, 0, 8);
  clone(v, f, pages(0, 4), g, 2);
  CHECK(v->getattr(g).blocks == 8);
  CHECK(v->space().blocks_used == 8);
  clone(v, f, pages(0, 4), f, 10);
  CHECK(v->lookup_extent(f, Pgoff(10))->pfn == e.pfn);
  CHECK(v->getattr(f).blocks == 8);
  CHECK(v->space().blocks_used == 8);
  Extent n = v->reserve(Pfn(0), 1, 1);
  Removed r = v->replace_extent(f, {Pgoff(1), n.first, 1, false});  // a copy on write
  CHECK(r.extents.empty());
  v->finish_free(r.id);
  CHECK(v->space().blocks_used == 9);
}

TEST_CASE("whatever is shared, replaced and removed, each block has as many owners as extents") {
  for (uint32_t seed : {1u, 2u, 3u}) {
    Volume v(65536);
    std::mt19937 rng(seed);
    std::vector<Ino> files{v.file("a"), v.file("b"), v.file("c")};
    std::vector<uint64_t> pending;
    std::map<std::pair<size_t, uint64_t>, uint64_t> model;  // file and page -> block
    for (int step = 0; step < 600; ++step) {
      CAPTURE(seed, step);
      size_t a = rng() % 3, b = rng() % 3;
      uint64_t p = rng() % 300, q = rng() % 300, n = 1 + rng() % 30;
      auto removed = [&](const Removed& r) {
        if (r.id != 0) pending.push_back(r.id);
      };
      switch (rng() % 5) {
        case 0:
          for (uint64_t k = p; k < p + n; ++k) {
            if (model.contains({a, k})) continue;
            model[{a, k}] = v.add(files[a], k, 1).pfn.v;
          }
          break;
        case 1: {
          if (a == b && p < q + n && q < p + n) break;
          for (Pgoff at(p); at < Pgoff(p + n);) {
            Shared s = v->share_extents(files[a], {at, Pgoff(p + n)}, files[b], Pgoff(q + (at.v - p)), std::nullopt);
            removed(s.removed);
            at = s.next;
          }
          for (uint64_t k = 0; k < n; ++k) {
            model.erase({b, q + k});
            if (auto it = model.find({a, p + k}); it != model.end()) model[{b, q + k}] = it->second;
          }
          break;
        }
        case 2:
          removed(v->remove_extents(files[a], pages(p, p + n), std::nullopt));
          for (uint64_t k = p; k < p + n; ++k) model.erase({a, k});
          break;
        case 3: {
          Extent e = v->reserve(Pfn(rng() % 60000), n, 1);
          removed(v->replace_extent(files[a], {Pgoff(p), e.first, e.count, false}));
          for (uint64_t k = 0; k < e.count; ++k) model[{a, p + k}] = e.first.v + k;
          break;
        }
        default:
          v->unshare(files[a], pages(p, p + n));
          while (!pending.empty() && rng() % 3 != 0) {
            v->finish_free(pending.back());
            pending.pop_back();
          }
      }
      if (step % 60 != 59) continue;
      std::map<std::pair<size_t, uint64_t>, uint64_t> now;
      for (size_t k = 0; k < 3; ++k)
        for (const FileExtent& e : v->extents(files[k], kWholeFile, SIZE_MAX))
          for (uint64_t i = 0; i < e.count; ++i) now[{k, e.pgoff.v + i}] = e.pfn.v + i;
      REQUIRE(now == model);
      auto findings = v->check();
      for (auto& x : findings) UNSCOPED_INFO(x);
      REQUIRE(findings.empty());
      v.reopen();
    }
    for (uint64_t id : pending) v->finish_free(id);
    for (Ino f : files) v.free(f, kWholeFile);
    CHECK(v->space().blocks_free == v->space().blocks_total);
  }
}

TEST_CASE("check finds a count of owners that is wrong") {
  TempDir d;
  Store::format(d / "meta", {1000, 1, false});
  {
    auto s = Store::open(d / "meta");
    Ino f = s->create(kRootIno, "f", 0600, 0, 0), g = s->create(kRootIno, "g", 0600, 0, 0);
    Extent e = s->reserve(Pfn(0), 4, 1);
    s->commit_extent(f, {Pgoff(0), e.first, 4, false}, std::nullopt);
    s->share_extents(f, pages(0, 4), g, Pgoff(0), std::nullopt);
    REQUIRE(s->check().empty());
  }
  {
    PoolImage image(d / "meta");
    image.at(image.root().shared.root)->records[0].b = 3;
    image.seal_all();
  }
  auto findings = Store::open(d / "meta")->check();
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].find("shared blocks") != std::string::npos);
}

}  // namespace
}  // namespace pmfs::meta::test
