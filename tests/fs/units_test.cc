// Units of 2 MiB on a mounted volume without clients: what is allocated, zeroed and freed is always a whole unit.
#include <catch2/catch.hpp>

#include <algorithm>

#include <fcntl.h>

#include "pmfs/base/error.h"
#include "pmfs/fs/block_run.h"
#include "pmfs/fs/inode_ref.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_dir.h"

using namespace pmfs;
using test::error_of;

namespace {

constexpr uint64_t kUnitBytes = kHugeBlocks * kBlockSize, kPage = kBlockSize;
constexpr uint64_t kBlocks = 16 * kHugeBlocks;

struct Fixture {
  test::TempDir dir;
  std::unique_ptr<MountedVolume> v;
  bool acked;
  explicit Fixture(bool is_acked = false, uint64_t blocks = kBlocks) : acked(is_acked) {
    FormatOptions o{blocks, true, false};
    o.unit_blocks = kHugeBlocks;
    format_volume(dir / "vol", o);
    mount();
  }
  void mount() {
    v.reset();
    VolumeOptions o;
    o.force_acked = acked;
    v = std::make_unique<MountedVolume>(dir / "vol", o);
  }
  InodeRef open(const char* p = "/f") { return {*v, v->open(p, O_RDWR | O_CREAT, 0644, 0, 0)}; }
  void write(Inode& i, uint64_t off, size_t n, uint8_t value) {
    std::vector<std::byte> in(n, std::byte{value});
    REQUIRE(v->write(i, in, off) == n);
  }
  bool holds(Inode& i, uint64_t off, size_t n, uint8_t value) {
    std::vector<std::byte> out(n);
    if (v->read(i, out, off) != n) return false;
    return std::all_of(out.begin(), out.end(), [&](std::byte b) { return b == std::byte{value}; });
  }
  uint64_t blocks(Inode& i) { return v->getattr(i).blocks; }
  // As a client with a PTE on it, in units: behind the end too.
  std::byte* memory(Inode& i, uint64_t off) {
    auto e = v->store().lookup_extent(i.ino, pgoff_of(off));
    REQUIRE(e);
    return v->region().address(e->pfn_at(pgoff_of(off))) + off % kPage;
  }
  void check_clean() {
    auto findings = v->store().check();
    for (auto& f : findings) UNSCOPED_INFO(f);
    REQUIRE(findings.empty());
    for (const auto& i : v->in_memory())
      for (const FileExtent& e : v->store().extents(i->ino, {Pgoff(0), kEndOfFile}, SIZE_MAX)) REQUIRE(v->unit().whole(e));
  }
};

}  // namespace

TEST_CASE("units: a fault commits a whole unit, which is zero; one that only loads keeps it as a zero unit") {
  Fixture f;
  InodeRef i = f.open();
  f.v->truncate(*i, 3 * kUnitBytes);
  {
    BlockRun run = BlockRun::grab(*f.v, *i, Pgoff(700), 1, Wait::kBlock);
    CHECK(run.kind() == BlockKind::kHole);
    run.allocate(1);
    CHECK(run.extent().range() == PageRange{Pgoff(512), Pgoff(1024)});
    CHECK(f.v->unit().whole(run.extent()));
    run.commit();
  }
  CHECK(f.blocks(*i) == kHugeBlocks);
  CHECK(f.holds(*i, kUnitBytes, kUnitBytes, 0));
  {
    BlockRun run = BlockRun::grab(*f.v, *i, Pgoff(3), 1, Wait::kBlock);
    run.allocate(1);
    run.keep_zero();
  }
  CHECK(i->zero_blocks.load() == kHugeBlocks);
  CHECK(f.blocks(*i) == kHugeBlocks);
  CHECK(f.v->reclaim() >= kHugeBlocks);
  CHECK(i->zero_blocks.load() == 0);
  f.check_clean();
}

TEST_CASE("units: punching a part of a unit zeroes it, punching whole ones frees them") {
  for (bool acked : {false, true}) {
    Fixture f(acked);
    InodeRef i = f.open();
    f.write(*i, 0, 4 * kUnitBytes, 7);
    f.v->punch(*i, 5 * kPage, 3 * kPage);  // inside of one
    CHECK(f.blocks(*i) == 4 * kHugeBlocks);
    CHECK(f.holds(*i, 5 * kPage, 3 * kPage, 0));
    CHECK(f.holds(*i, 0, 5 * kPage, 7));
    CHECK(f.holds(*i, 8 * kPage, kUnitBytes - 8 * kPage, 7));
    f.v->punch(*i, kUnitBytes - 100, 2 * kUnitBytes + 200);  // two, and the edges of their neighbours
    f.v->wait_idle(i->ino);
    CHECK(f.blocks(*i) == 2 * kHugeBlocks);
    CHECK(f.holds(*i, 8 * kPage, kUnitBytes - 8 * kPage - 100, 7));
    CHECK(f.holds(*i, kUnitBytes - 100, 2 * kUnitBytes + 200, 0));
    CHECK(f.holds(*i, 3 * kUnitBytes + 100, kUnitBytes - 100, 7));
    f.v->punch(*i, kUnitBytes - kPage, 2 * kPage);  // over a boundary, none of them whole: nothing is there behind it
    CHECK(f.holds(*i, 8 * kPage, kUnitBytes - 9 * kPage, 7));
    CHECK(f.blocks(*i) == 2 * kHugeBlocks);
    f.check_clean();
  }
}

TEST_CASE("units: a file cut inside a unit shows zeros there when it grows, whatever was stored behind the end meanwhile") {
  Fixture f(GENERATE(false, true));
  InodeRef i = f.open();
  f.write(*i, 0, 2 * kUnitBytes, 7);
  const uint64_t cut = kUnitBytes / 2 + 100;
  f.v->truncate(*i, cut);
  f.v->wait_idle(i->ino);
  CHECK(f.blocks(*i) == kHugeBlocks);
  CHECK(*f.memory(*i, cut) == std::byte{0});
  CHECK(*f.memory(*i, kUnitBytes - 1) == std::byte{0});
  *f.memory(*i, cut + 1) = *f.memory(*i, cut + 3 * kPage) = *f.memory(*i, kUnitBytes - 1) = std::byte{9};
  SECTION("by truncate") { f.v->truncate(*i, 2 * kUnitBytes); }
  SECTION("bit by bit") {
    f.v->truncate(*i, cut + 2 * kPage);
    f.v->truncate(*i, 2 * kUnitBytes);
  }
  SECTION("by a write behind it") {
    f.write(*i, cut + 4 * kPage, 10, 0);
    f.v->truncate(*i, 2 * kUnitBytes);
  }
  SECTION("by appends") {
    std::vector<std::byte> zeros(3 * kPage);
    f.v->append(*i, zeros);
    f.v->append(*i, zeros);
    f.v->truncate(*i, 2 * kUnitBytes);
  }
  SECTION("by preallocation") { f.v->preallocate(*i, 0, 2 * kUnitBytes, false); }
  CHECK(f.holds(*i, 0, cut, 7));
  CHECK(f.holds(*i, cut, 2 * kUnitBytes - cut, 0));
  f.check_clean();
}

TEST_CASE("units: a write of a few bytes makes a unit of zeros around them, in a hole, unwritten and over a mount") {
  Fixture f;
  {
    InodeRef i = f.open();
    f.v->truncate(*i, 3 * kUnitBytes);
    f.v->preallocate(*i, kUnitBytes + 5, 10, true);
    CHECK(f.blocks(*i) == kHugeBlocks);
    f.write(*i, kUnitBytes + 3 * kPage + 5, 10, 1);
    f.write(*i, 2 * kUnitBytes - 5, 10, 2);  // and over a boundary, into a hole
    CHECK(f.blocks(*i) == 2 * kHugeBlocks);
  }
  f.mount();
  InodeRef i = f.open();
  CHECK(f.holds(*i, kUnitBytes, 3 * kPage + 5, 0));
  CHECK(f.holds(*i, kUnitBytes + 3 * kPage + 5, 10, 1));
  CHECK(f.holds(*i, kUnitBytes + 3 * kPage + 15, kUnitBytes - 3 * kPage - 20, 0));
  CHECK(f.holds(*i, 2 * kUnitBytes - 5, 10, 2));
  CHECK(f.holds(*i, 2 * kUnitBytes + 5, kUnitBytes - 5, 0));
  f.check_clean();
}

TEST_CASE("units: zero range keeps whole units, unwritten, and zeroes the rest") {
  for (bool acked : {false, true}) {
    Fixture f(acked);
    InodeRef i = f.open();
    f.write(*i, 0, 3 * kUnitBytes, 7);
    f.v->zero_range(*i, kPage, 2 * kUnitBytes);
    CHECK(f.blocks(*i) == 3 * kHugeBlocks);
    CHECK(f.holds(*i, 0, kPage, 7));
    CHECK(f.holds(*i, kPage, 2 * kUnitBytes, 0));
    CHECK(f.holds(*i, 2 * kUnitBytes + kPage, kUnitBytes - kPage, 7));
    f.check_clean();
  }
}

TEST_CASE("units: ENOSPC when no whole one is free, and what is freed can be used again") {
  Fixture f;
  InodeRef a = f.open("/a"), b = f.open("/b");
  f.write(*a, 0, 15 * kUnitBytes, 1);
  f.write(*b, 0, 1, 1);
  std::byte one{1};
  CHECK(error_of([&] { f.v->write(*b, {&one, 1}, kUnitBytes); }) == ENOSPC);
  CHECK(f.v->write(*b, {&one, 1}, kUnitBytes - 1) == 1);  // it has that already
  f.v->punch(*a, 3 * kUnitBytes, kUnitBytes - 1);        // frees nothing
  CHECK(error_of([&] { f.v->write(*b, {&one, 1}, kUnitBytes); }) == ENOSPC);
  f.v->punch(*a, 3 * kUnitBytes, kUnitBytes);
  CHECK(f.v->write(*b, {&one, 1}, kUnitBytes) == 1);
  f.check_clean();
}

TEST_CASE("units: collapse, insert and clone go by whole ones") {
  Fixture f;
  InodeRef i = f.open(), o = f.open("/o");
  for (uint8_t n = 0; n < 4; ++n) f.write(*i, n * kUnitBytes, kUnitBytes, n + 1);
  CHECK(error_of([&] { f.v->collapse(*i, kPage, kUnitBytes); }) == EINVAL);
  CHECK(error_of([&] { f.v->collapse(*i, 0, kPage); }) == EINVAL);
  CHECK(error_of([&] { f.v->insert(*i, kUnitBytes, kPage); }) == EINVAL);
  CHECK(error_of([&] { f.v->clone_range(*i, kPage, *o, 0, kUnitBytes); }) == EINVAL);
  CHECK(error_of([&] { f.v->clone_range(*i, 0, *o, 0, kPage); }) == EINVAL);
  f.v->collapse(*i, kUnitBytes, kUnitBytes);
  CHECK(f.holds(*i, kUnitBytes, kUnitBytes, 3));
  f.v->insert(*i, kUnitBytes, kUnitBytes);
  CHECK(f.holds(*i, kUnitBytes, kUnitBytes, 0));
  CHECK(f.holds(*i, 2 * kUnitBytes, kUnitBytes, 3));
  f.v->truncate(*i, 3 * kUnitBytes - 5);
  f.v->clone_range(*i, 2 * kUnitBytes, *o, 0, 0);  // to the end, which is inside of a unit
  CHECK(f.holds(*o, 0, kUnitBytes - 5, 3));
  f.write(*o, 3 * kPage, 3, 9);
  CHECK(f.holds(*i, 2 * kUnitBytes, kUnitBytes - 5, 3));
  CHECK(f.holds(*o, 3 * kPage + 3, kUnitBytes - 3 * kPage - 8, 3));
  f.v->truncate(*o, kUnitBytes);
  CHECK(f.holds(*o, kUnitBytes - 5, 5, 0));
  f.v->clone_range(*i, 0, *o, 0, kUnitBytes);
  f.v->punch(*o, 5, 10);  // an edge of a shared unit
  CHECK(f.holds(*i, 0, kUnitBytes, 1));
  CHECK(f.holds(*o, 5, 10, 0));
  CHECK(f.holds(*o, 15, kUnitBytes - 15, 1));
  // A copy needs no units: it copies.
  CHECK(f.v->copy_range(*i, 100, *o, 7, 3 * kPage) == 3 * kPage);
  CHECK(f.holds(*o, 7, 3 * kPage, 1));
  f.check_clean();
}

TEST_CASE("units: every scheme, with a file of many") {
  for (const exclusion::SchemeInfo& s : exclusion::schemes()) {
    if (!s.sound) continue;
    INFO(s.name);
    Fixture f;
    f.v.reset();
    VolumeOptions o;
    o.exclusion = std::string(s.name);
    f.v = std::make_unique<MountedVolume>(f.dir / "vol", o);
    InodeRef i = f.open();
    f.write(*i, 100, 5 * kUnitBytes, 3);
    f.v->punch(*i, 2 * kUnitBytes, 2 * kUnitBytes);
    CHECK(f.holds(*i, 2 * kUnitBytes, 2 * kUnitBytes, 0));
    f.v->truncate(*i, kUnitBytes + 1);
    CHECK(f.blocks(*i) == 2 * kHugeBlocks);
    f.v->fsync(*i);
    f.check_clean();
  }
}

TEST_CASE("units: a volume of another size of unit, and sizes that are none, are refused") {
  test::TempDir dir;
  FormatOptions o{kBlocks, true, false};
  o.unit_blocks = 8;
  CHECK(error_of([&] { format_volume(dir / "a", o); }) == EINVAL);
  o.unit_blocks = kHugeBlocks;
  o.blocks = kBlocks + 1;
  CHECK(error_of([&] { format_volume(dir / "b", o); }) == EINVAL);
  CHECK_FALSE(std::filesystem::exists(dir / "a"));
  CHECK_FALSE(std::filesystem::exists(dir / "b"));
  Fixture f;
  CHECK(error_of([&] { f.v->grow(kBlocks + 1); }) == EINVAL);
  f.v->grow(kBlocks + kHugeBlocks);
  InodeRef i = f.open();
  f.write(*i, 0, 17 * kUnitBytes, 1);
  f.check_clean();
}
