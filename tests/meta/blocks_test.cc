// The allocator: reservations, goals, alignment, groups, and what survives a crash of them.
#include <random>

#include "pmfs/meta/layout.h"
#include "tests/meta/meta_fixture.h"

namespace pmfs::meta::test {
namespace {

TEST_CASE("a reservation starts at its goal if that is free") {
  Volume v;
  CHECK(v->reserve(Pfn(1000), 10, 1) == Extent{Pfn(1000), 10});
  CHECK(v->block_state(Pfn(1000)) == BlockState::kReserved);
  CHECK(v->block_state(Pfn(1010)) == BlockState::kFree);
  CHECK(v->space().blocks_reserved == 10);
  SECTION("takes what is free there, not more") { CHECK(v->reserve(Pfn(995), 10, 1) == Extent{Pfn(995), 5}); }
  SECTION("else the next place where it fits") { CHECK(v->reserve(Pfn(1003), 10, 1) == Extent{Pfn(1010), 10}); }
  SECTION("wraps round at the end") {
    v->reserve(Pfn(65530), 6, 1);
    CHECK(v->reserve(Pfn(65533), 4, 1) == Extent{Pfn(0), 4});
  }
  SECTION("a goal outside of the region is no goal") { CHECK(v->reserve(Pfn(1 << 30), 3, 1) == Extent{Pfn(0), 3}); }
}

TEST_CASE("a reservation prefers a place where all of it fits") {
  Volume v;
  for (uint64_t b = 0; b < 100; b += 2) REQUIRE(v->reserve_at({Pfn(b), 1}));
  CHECK(v->reserve(Pfn(0), 8, 1) == Extent{Pfn(99), 8});
}

TEST_CASE("aligned reservations") {
  Volume v;
  CHECK(v->reserve(Pfn(1000), kHugeBlocks, kHugeBlocks) == Extent{Pfn(1024), kHugeBlocks});
  CHECK(v->reserve(Pfn(1024), kHugeBlocks, kHugeBlocks) == Extent{Pfn(1536), kHugeBlocks});
  SECTION("are aligned as long as such a run is free anywhere, then best effort") {
    for (uint64_t b = 1; b < 65536; b += kHugeBlocks)
      if (b < 1024 || b >= 2048) v->reserve_at({Pfn(b), 1});
    REQUIRE(v->reserve_at({Pfn(1024 + 1024 + 20), 1}));
    Extent e = v->reserve(Pfn(5000), kHugeBlocks, kHugeBlocks);
    CHECK(e == Extent{Pfn(5000), 121});  // up to the next one taken
    v->unreserve({Pfn(1024), kHugeBlocks});
    CHECK(v->reserve(Pfn(5000), kHugeBlocks, kHugeBlocks) == Extent{Pfn(1024), kHugeBlocks});
  }
  SECTION("small ones too, and longer than their alignment") {
    CHECK(v->reserve(Pfn(3), 2, 4) == Extent{Pfn(4), 2});
    CHECK(v->reserve(Pfn(3), 40000, 1024) == Extent{Pfn(2048), 40000});
  }
}

TEST_CASE("a run can cross block groups") {
  Volume v(4 * kGroupBlocks);
  Extent e = v->reserve(Pfn(kGroupBlocks - 10), 2 * kGroupBlocks, 1);
  CHECK(e == Extent{Pfn(kGroupBlocks - 10), 2 * kGroupBlocks});
  Ino f = v.file("f");
  v->commit_extent(f, {Pgoff(0), e.first, e.count, false}, std::nullopt);
  v.reopen();
  CHECK(v->space().blocks_used == 2 * kGroupBlocks);
  CHECK(v->free_extents(Pfn(0), 10) ==
        std::vector<Extent>{{Pfn(0), kGroupBlocks - 10}, {Pfn(3 * kGroupBlocks - 10), kGroupBlocks + 10}});
  CHECK(v->free_extents(Pfn(5), 1) == std::vector<Extent>{{Pfn(5), kGroupBlocks - 15}});
  v.free(f, kWholeFile);
  CHECK(v->space().blocks_free == 4 * kGroupBlocks);
}

TEST_CASE("every block can be reserved, and then none") {
  Volume v(70000);  // the last group is not full
  uint64_t n = 0;
  while (n < 70000) n += v->reserve(Pfn(12345), 999, 1).count;
  CHECK(n == 70000);
  CHECK(v->space().blocks_free == 0);
  CHECK(error_of([&] { v->reserve(Pfn(0), 1, 1); }) == ENOSPC);
  CHECK(error_of([&] { v->reserve(Pfn(0), kHugeBlocks, kHugeBlocks); }) == ENOSPC);
  v->unreserve({Pfn(69999), 1});
  CHECK(v->reserve(Pfn(0), 5, 1) == Extent{Pfn(69999), 1});
}

TEST_CASE("reserve_at is all or nothing") {
  Volume v;
  CHECK(v->reserve_at({Pfn(10), 10}));
  CHECK_FALSE(v->reserve_at({Pfn(5), 6}));
  CHECK(v->block_state(Pfn(5)) == BlockState::kFree);
  CHECK_FALSE(v->reserve_at({Pfn(65530), 7}));
  CHECK_FALSE(v->reserve_at({Pfn(UINT64_MAX), 2}));
  CHECK_FALSE(v->reserve_at({Pfn(0), 0}));
  v->unreserve({Pfn(12), 2});  // part of it
  CHECK(v->reserve_at({Pfn(12), 2}));
}

TEST_CASE("only what is reserved can be unreserved") {
  Volume v;
  v->reserve_at({Pfn(10), 10});
  CHECK(error_of([&] { v->unreserve({Pfn(15), 10}); }) == EINVAL);
  CHECK(error_of([&] { v->unreserve({Pfn(40000), 1}); }) == EINVAL);
  CHECK(error_of([&] { v->unreserve({Pfn(1 << 30), 1}); }) == EINVAL);
  CHECK(error_of([&] { v->block_state(Pfn(65536)); }) == EINVAL);
  CHECK(error_of([&] { v->reserve(Pfn(0), 0, 1); }) == EINVAL);
  CHECK(v->space().blocks_reserved == 10);
}

TEST_CASE("a reservation does not outlive the manager") {
  Volume v;
  Ino f = v.file("f");
  v.add(f, 0, 5);
  v->reserve(Pfn(100), 50, 1);
  v.reopen();
  CHECK(v->space().blocks_reserved == 0);
  CHECK(v->space().blocks_used == 5);
  CHECK(v->block_state(Pfn(100)) == BlockState::kFree);
}

TEST_CASE("the deferred-free list outlives the manager") {
  Volume v;
  Ino f = v.file("f");
  FileExtent a = v.add(f, 0, 10), b = v.add(f, 20, 10);
  Removed one = v->remove_extents(f, pages(2, 4), std::nullopt);
  Removed two = v->remove_extents(f, pages(20, 30), std::nullopt);
  v.reopen();
  CHECK(v->block_state(a.pfn + 2) == BlockState::kDeferred);
  CHECK(v->block_state(b.pfn) == BlockState::kDeferred);
  CHECK(v->block_state(a.pfn) == BlockState::kUsed);
  CHECK(v->space().blocks_deferred == 12);
  CHECK_FALSE(v->reserve_at(b.blocks()));
  auto d = v->deferred();
  REQUIRE(d.size() == 2);
  CHECK(d[0].id == one.id);
  CHECK(d[0].extents == one.extents);
  CHECK(d[1].id == two.id);
  CHECK(d[1].extents == two.extents);
  v->finish_free(one.id);
  v.reopen();
  REQUIRE(v->deferred().size() == 1);
  v->finish_free(two.id);
  CHECK(v->deferred().empty());
  CHECK(v->space().blocks_deferred == 0);
  SECTION("ids are not used again") {
    v.reopen();
    CHECK(v->remove_extents(f, pages(0, 1), std::nullopt).id > two.id);
  }
}

TEST_CASE("a removal of nothing is nothing") {
  Volume v;
  Ino f = v.file("f");
  Removed r = v->remove_extents(f, kWholeFile, std::nullopt);
  CHECK(r.id == 0);
  CHECK(r.extents.empty());
  CHECK(v->remove_extents(f, pages(5, 5), std::nullopt).id == 0);
  CHECK(error_of([&] { v->finish_free(77); }) == ENOENT);
}

}  // namespace
}  // namespace pmfs::meta::test
