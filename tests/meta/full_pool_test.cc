// A metadata pool without room: growing fails cleanly, freeing works.
#include <algorithm>

#include "tests/meta/meta_fixture.h"

namespace pmfs::meta::test {
namespace {

constexpr uint64_t kSmallPool = 8 << 20;
constexpr uint64_t kBlocks = 1 << 20;

// Every second page of a file gets a block of its own, until the pool is full. Returns the pages.
uint64_t fill_with_extents(Volume& v, Ino f) {
  uint64_t n = 0;
  CHECK(error_of([&] {
          for (;; ++n) {
            REQUIRE(v->reserve_at({Pfn(n * 2), 1}));
            v->commit_extent(f, {Pgoff(n * 2), Pfn(n * 2), 1, n % 2 == 1}, std::nullopt);
          }
        }) == ENOSPC);
  v->unreserve({Pfn(n * 2), 1});
  return n;
}

uint64_t fill_with_files(Volume& v) {
  uint64_t n = 0;
  CHECK(error_of([&] {
          for (;; ++n) v.file("file-" + std::to_string(n));
        }) == ENOSPC);
  return n;
}

TEST_CASE("a full pool refuses to grow and is as consistent as ever") {
  Volume v(kBlocks, kSmallPool);
  Ino f = v.file("f");
  uint64_t n = fill_with_extents(v, f);
  CHECK(n > 10'000);
  CHECK(v->getattr(f).blocks == n);
  CHECK(v->check().empty());
  v.reopen();
  CHECK(v->check().empty());
}

TEST_CASE("holes can be punched into a full pool's file, each splitting an extent") {
  Volume v(kBlocks, kSmallPool);
  Ino big = v.file("big");
  REQUIRE(v->reserve_at({Pfn(500'000), 100'000}));
  v->commit_extent(big, {Pgoff(0), Pfn(500'000), 100'000, false}, std::nullopt);
  Ino f = v.file("f");
  fill_with_extents(v, f);
  fill_with_files(v);
  for (uint64_t i = 0; i < 50; ++i) v.free(big, pages(i * 100 + 10, i * 100 + 20));
  for (uint64_t i = 0; i < 50; ++i) v->mark_unwritten(big, pages(i * 100 + 50, i * 100 + 60));
  for (uint64_t i = 0; i < 50; ++i) v->mark_written(big, pages(i * 100 + 52, i * 100 + 53), std::nullopt);
  CHECK(v->check().empty());
  CHECK(v->getattr(big).blocks == 100'000 - 500);
}

TEST_CASE("everything can be removed from a full pool, and then there is room again") {
  Volume v(kBlocks, kSmallPool);
  Ino f = v.file("f");
  uint64_t extents = fill_with_extents(v, f);
  uint64_t files = fill_with_files(v);
  SECTION("renames go on") {
    CHECK_FALSE(v->rename(kRootIno, "f", kRootIno, std::string(kMaxName, 'r')));
    v->rename(kRootIno, std::string(kMaxName, 'r'), kRootIno, "f");
  }
  SECTION("attributes too") {
    v->set_mode(f, 0600, 1, 1);
    v->grow_size(f, 1 << 20);
  }
  SECTION("and a clean unmount") {
    v->mark_clean();
    v.reopen();
    CHECK(v->superblock().was_clean);
  }
  for (uint64_t i = 0; i < files; ++i) {
    Unlinked u = v->unlink(kRootIno, "file-" + std::to_string(i));
    REQUIRE(u.last_link);
    v->free_inode(u.ino);
  }
  // A truncate from the middle, then the rest.
  Removed r = v->remove_extents(f, {Pgoff(extents), kEndOfFile}, extents * kBlockSize);
  CHECK(r.extents.size() == extents - (extents + 1) / 2);
  v->finish_free(r.id);
  v.free(f, kWholeFile);
  v->unlink(kRootIno, "f");
  v->free_inode(f);
  CHECK(v->space().inodes_used == 1);
  CHECK(v->space().blocks_free == kBlocks);
  CHECK(v->check().empty());
  // As much as before fits in again: nothing leaked.
  Ino g = v.file("g");
  CHECK(fill_with_extents(v, g) > extents * 9 / 10);
}

TEST_CASE("filling and emptying a pool over and over never wedges it") {
  Volume v(kBlocks, kSmallPool);
  uint64_t first = 0;
  for (int round = 0; round < 3; ++round) {
    Ino f = v.file("f");
    uint64_t n = fill_with_extents(v, f);
    if (round == 0) first = n;
    CHECK(n > first * 9 / 10);
    for (uint64_t p = 0; p < n * 2; p += 64) v.free(f, pages(p, p + 40));  // holes all over
    fill_with_files(v);
    for (uint64_t p = 0; p < n * 2; p += 64) v.free(f, pages(p + 50, p + 52));
    v.free(f, kWholeFile);
    v->unlink(kRootIno, "f");
    v->free_inode(f);
    for (const DirEntry& e : v->list(kRootIno, 0, SIZE_MAX)) v->free_inode(v->unlink(kRootIno, e.name).ino);
    REQUIRE(v->check().empty());
  }
}

}  // namespace
}  // namespace pmfs::meta::test
