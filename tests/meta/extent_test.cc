// The extent map of a file through the store: insert, split, merge, UNWRITTEN, remove.
#include <algorithm>

#include "tests/meta/meta_fixture.h"

namespace pmfs::meta::test {
namespace {

std::vector<FileExtent> map_of(Volume& v, Ino ino) { return v->extents(ino, kWholeFile, SIZE_MAX); }

void commit(Volume& v, Ino ino, FileExtent e) {
  REQUIRE(v->reserve_at(e.blocks()));
  v->commit_extent(ino, e, std::nullopt);
}

TEST_CASE("a committed extent is found at each of its pages and nowhere else") {
  Volume v;
  Ino f = v.file("f");
  FileExtent e{Pgoff(10), Pfn(100), 5, false};
  commit(v, f, e);
  CHECK_FALSE(v->lookup_extent(f, Pgoff(9)));
  for (uint64_t p = 10; p < 15; ++p) CHECK(v->lookup_extent(f, Pgoff(p)) == e);
  CHECK_FALSE(v->lookup_extent(f, Pgoff(15)));
  CHECK(v->getattr(f).blocks == 5);
  CHECK(v->getattr(f).size == 0);
  CHECK(v->block_state(Pfn(100)) == BlockState::kUsed);
  CHECK(v->block_state(Pfn(105)) == BlockState::kFree);
}

TEST_CASE("a commit can raise the size and never lowers it") {
  Volume v;
  Ino f = v.file("f");
  REQUIRE(v->reserve_at({Pfn(0), 2}));
  v->commit_extent(f, {Pgoff(0), Pfn(0), 1, false}, 4096);
  CHECK(v->getattr(f).size == 4096);
  v->commit_extent(f, {Pgoff(1), Pfn(1), 1, false}, 100);
  CHECK(v->getattr(f).size == 4096);
}

TEST_CASE("extents that touch in page and block become one") {
  Volume v;
  Ino f = v.file("f");
  commit(v, f, {Pgoff(0), Pfn(100), 2, false});
  commit(v, f, {Pgoff(4), Pfn(104), 2, false});
  CHECK(map_of(v, f).size() == 2);
  commit(v, f, {Pgoff(2), Pfn(102), 2, false});
  CHECK(map_of(v, f) == std::vector<FileExtent>{{Pgoff(0), Pfn(100), 6, false}});
  SECTION("but not if the blocks are elsewhere") {
    commit(v, f, {Pgoff(6), Pfn(200), 1, false});
    CHECK(map_of(v, f).size() == 2);
  }
  SECTION("nor if only one of them is unwritten") {
    commit(v, f, {Pgoff(6), Pfn(106), 1, true});
    CHECK(map_of(v, f).size() == 2);
    v->mark_written(f, pages(6, 7), std::nullopt);
    CHECK(map_of(v, f).size() == 1);
  }
}

TEST_CASE("extents() clips to the range and stops at the most asked for") {
  Volume v;
  Ino f = v.file("f");
  commit(v, f, {Pgoff(0), Pfn(100), 10, false});
  commit(v, f, {Pgoff(20), Pfn(300), 10, true});
  CHECK(v->extents(f, pages(5, 22), 10) ==
        std::vector<FileExtent>{{Pgoff(5), Pfn(105), 5, false}, {Pgoff(20), Pfn(300), 2, true}});
  CHECK(v->extents(f, pages(5, 22), 1).size() == 1);
  CHECK(v->extents(f, pages(10, 20), 10).empty());
  CHECK(v->extents(f, pages(7, 7), 10).empty());
}

TEST_CASE("what may not be committed") {
  Volume v;
  Ino f = v.file("f");
  commit(v, f, {Pgoff(10), Pfn(100), 5, false});
  REQUIRE(v->reserve_at({Pfn(200), 10}));
  auto err = [&](FileExtent e) { return error_of([&] { v->commit_extent(f, e, std::nullopt); }); };
  CHECK(err({Pgoff(14), Pfn(200), 2, false}) == EEXIST);  // not a hole
  CHECK(err({Pgoff(8), Pfn(200), 3, false}) == EEXIST);
  CHECK(err({Pgoff(20), Pfn(300), 1, false}) == EINVAL);  // not reserved
  CHECK(err({Pgoff(20), Pfn(208), 3, false}) == EINVAL);  // not all reserved
  CHECK(err({Pgoff(20), Pfn(100), 1, false}) == EINVAL);  // used
  CHECK(err({Pgoff(20), Pfn(200), 0, false}) == EINVAL);
  CHECK(err({kEndOfFile, Pfn(200), 1, false}) == EFBIG);
  CHECK(error_of([&] { v->commit_extent(kRootIno, {Pgoff(0), Pfn(200), 1, false}, std::nullopt); }) == EISDIR);
  CHECK(error_of([&] { v->commit_extent(Ino{99}, {Pgoff(0), Pfn(200), 1, false}, std::nullopt); }) == ENOENT);
  CHECK(v->block_state(Pfn(200)) == BlockState::kReserved);  // and the reservation stands
  CHECK(map_of(v, f).size() == 1);
  v->commit_extent(f, {kEndOfFile - 1, Pfn(200), 1, false}, std::nullopt);  // the very last page
}

TEST_CASE("mark_written splits an unwritten extent and merges what it can") {
  Volume v;
  Ino f = v.file("f");
  commit(v, f, {Pgoff(0), Pfn(100), 10, true});
  v->mark_written(f, pages(4, 6), 6 * kBlockSize);
  CHECK(map_of(v, f) == std::vector<FileExtent>{{Pgoff(0), Pfn(100), 4, true},
                                                {Pgoff(4), Pfn(104), 2, false},
                                                {Pgoff(6), Pfn(106), 4, true}});
  CHECK(v->getattr(f).size == 6 * kBlockSize);
  v->mark_written(f, pages(6, 7), std::nullopt);
  CHECK(map_of(v, f)[1] == FileExtent{Pgoff(4), Pfn(104), 3, false});
  v->mark_written(f, pages(0, 10), std::nullopt);
  CHECK(map_of(v, f) == std::vector<FileExtent>{{Pgoff(0), Pfn(100), 10, false}});
  v->mark_unwritten(f, pages(2, 5));
  CHECK(map_of(v, f).size() == 3);
  v->mark_unwritten(f, pages(0, 1000));
  CHECK(map_of(v, f) == std::vector<FileExtent>{{Pgoff(0), Pfn(100), 10, true}});
  CHECK(v->getattr(f).blocks == 10);
}

TEST_CASE("a punch in the middle of an extent leaves both ends") {
  Volume v;
  Ino f = v.file("f");
  commit(v, f, {Pgoff(0), Pfn(100), 10, true});
  Removed r = v->remove_extents(f, pages(3, 5), std::nullopt);
  CHECK(r.id != 0);
  CHECK(r.extents == std::vector<Extent>{{Pfn(103), 2}});
  CHECK(map_of(v, f) == std::vector<FileExtent>{{Pgoff(0), Pfn(100), 3, true}, {Pgoff(5), Pfn(105), 5, true}});
  CHECK(v->getattr(f).blocks == 8);
  CHECK(v->block_state(Pfn(103)) == BlockState::kDeferred);
  CHECK(v->space().blocks_deferred == 2);
  CHECK_FALSE(v->reserve_at({Pfn(103), 1}));
  v->finish_free(r.id);
  CHECK(v->block_state(Pfn(103)) == BlockState::kFree);
  CHECK(v->reserve_at({Pfn(103), 1}));
  CHECK(error_of([&] { v->finish_free(r.id); }) == ENOENT);
}

TEST_CASE("a range over several extents takes whole ones and parts of the outer ones") {
  Volume v;
  Ino f = v.file("f");
  for (uint64_t i = 0; i < 300; ++i) commit(v, f, {Pgoff(i * 10), Pfn(i * 20), 6, i % 2 == 1});
  Removed r = v->remove_extents(f, pages(13, 2902), std::nullopt);
  uint64_t n = 0;
  for (const Extent& e : r.extents) n += e.count;
  CHECK(n == 3 + 288 * 6 + 2);
  CHECK(v->getattr(f).blocks == 300 * 6 - n);
  CHECK(v->extents(f, pages(0, 2902), 100) ==
        std::vector<FileExtent>{{Pgoff(0), Pfn(0), 6, false}, {Pgoff(10), Pfn(20), 3, true}});
  CHECK(v->lookup_extent(f, Pgoff(2902)) == FileExtent{Pgoff(2902), Pfn(290 * 20 + 2), 4, false});
  CHECK(v->check().empty());  // with the record still on the list
  v->finish_free(r.id);
  CHECK(v->space().blocks_deferred == 0);
}

// The tree keeps the separators of records that are gone. An extent that reaches over one and loses its head is
// to be found by its new first page, in the neighbour leaf.
TEST_CASE("an extent whose first page moves behind a stale separator is still found") {
  Volume v;
  Ino f = v.file("f");
  for (uint64_t i = 0; i < 200; ++i) commit(v, f, {Pgoff(i * 10), Pfn(i * 20), 1, false});
  uint64_t edge = GENERATE(range(30, 60));  // one of them is the last of its leaf
  v.free(f, pages(edge * 10, edge * 10 + 51));
  commit(v, f, {Pgoff(edge * 10), Pfn(10'000), 45, false});
  v.free(f, pages(edge * 10, edge * 10 + 30));
  CHECK(v->lookup_extent(f, Pgoff(edge * 10 + 31)) == FileExtent{Pgoff(edge * 10 + 30), Pfn(10'030), 15, false});
  v->mark_unwritten(f, pages(edge * 10 + 30, edge * 10 + 44));
  CHECK(v->lookup_extent(f, Pgoff(edge * 10 + 44)) == FileExtent{Pgoff(edge * 10 + 44), Pfn(10'044), 1, false});
}

TEST_CASE("truncate sets the size in the same transaction") {
  Volume v;
  Ino f = v.file("f");
  v.add(f, 0, 10);
  v->grow_size(f, 10 * kBlockSize);
  Removed r = v->remove_extents(f, {Pgoff(3), kEndOfFile}, 3 * kBlockSize - 5);
  CHECK(v->getattr(f).size == 3 * kBlockSize - 5);
  CHECK(v->getattr(f).blocks == 3);
  v->finish_free(r.id);
  SECTION("also if there is nothing to remove") {
    CHECK(v->remove_extents(f, {Pgoff(3), kEndOfFile}, 3 * kBlockSize - 10).id == 0);
    CHECK(v->getattr(f).size == 3 * kBlockSize - 10);
  }
  SECTION("grow_size goes upwards only") {
    v->grow_size(f, 5);
    CHECK(v->getattr(f).size == 3 * kBlockSize - 5);
    v->grow_size(f, kMaxFileBytes);
    CHECK(v->getattr(f).size == kMaxFileBytes);
    CHECK(error_of([&] { v->grow_size(f, kMaxFileBytes + 1); }) == EFBIG);
  }
}

TEST_CASE("a file of 50000 extents goes in one transaction, and comes back in several") {
  constexpr uint64_t kExtents = 50'000;
  Volume v(kExtents * 2 + 10, 128 << 20);
  Ino f = v.file("f");
  for (uint64_t i = 0; i < kExtents; ++i) {
    v->reserve_at({Pfn(i * 2), 1});
    v->commit_extent(f, {Pgoff(i * 2), Pfn(i * 2), 1, false}, std::nullopt);
  }
  CHECK(v->getattr(f).blocks == kExtents);
  Removed r = v->remove_extents(f, kWholeFile, 0);
  CHECK(r.extents.size() == kExtents);
  CHECK(v->getattr(f).blocks == 0);
  CHECK(v->check().empty());
  v.reopen();
  REQUIRE(v->deferred().size() == 1);
  CHECK(v->deferred()[0].extents.size() == kExtents);
  v->finish_free(r.id);
  CHECK(v->deferred().empty());
  CHECK(v->space().blocks_free == v->space().blocks_total);
}

}  // namespace
}  // namespace pmfs::meta::test
