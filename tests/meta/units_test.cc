// Volumes whose extents are made of whole units of 2 MiB.
#include "tests/meta/pool_image.h"

namespace pmfs::meta::test {
namespace {

constexpr Unit kUnit{kHugeBlocks};
constexpr uint64_t kBlocks = 64 * kHugeBlocks;

struct Units {
  TempDir d;
  std::filesystem::path path = d / "meta";
  std::unique_ptr<Store> s;
  explicit Units(uint64_t blocks = kBlocks) {
    Store::format(path, {blocks, 1, false, kUnit});
    s = Store::open(path);
  }
  Ino file() { return s->create(kRootIno, "f", 0644, 1, 2); }
};

}  // namespace

TEST_CASE("units: the superblock says so, with a feature that an older pmfs refuses; a unit of one block is not mentioned") {
  Units u;
  CHECK(u.s->unit() == kUnit);
  CHECK(u.s->superblock().geometry.unit == kUnit);
  CHECK(u.s->superblock().features_incompat == kIncompatUnits);
  u.s.reset();
  PoolImage image(u.path);
  CHECK(image.superblock().unit_blocks == kHugeBlocks);
  TempDir plain;
  Store::format(plain / "meta", {kBlocks, 1, false});
  CHECK(Store::open(plain / "meta")->unit().single());
  PoolImage same(plain / "meta");
  CHECK(same.superblock().features_incompat == 0);
  CHECK(same.superblock().unit_blocks == 0);
}

TEST_CASE("units: sizes that are none, and superblocks that contradict themselves, are refused") {
  TempDir d;
  CHECK(error_of([&] { Store::format(d / "meta", {kBlocks + 1, 1, false, kUnit}); }) == EINVAL);
  CHECK(error_of([&] { Store::format(d / "meta", {kBlocks, 1, false, Unit(8)}); }) == EINVAL);
  Store::format(d / "meta", {kBlocks, 1, false, kUnit});
  PoolImage image(d / "meta");
  const auto wrong = [&](auto&& change) {
    const SuperblockMedia was = image.superblock();
    change(image.superblock());
    image.seal();
    CHECK(error_of([&] { Store::open(d / "meta"); }) == EUCLEAN);
    image.superblock() = was;
  };
  wrong([](SuperblockMedia& sb) { sb.unit_blocks = 8; });
  wrong([](SuperblockMedia& sb) { sb.unit_blocks = 0; });
  wrong([](SuperblockMedia& sb) { sb.unit_blocks = 1; });
  wrong([](SuperblockMedia& sb) { sb.features_incompat = 0; });
  wrong([](SuperblockMedia& sb) { --sb.blocks; });
  CHECK(error_of([&] { Store::open(d / "meta"); }) == 0);
}

TEST_CASE("units: only whole ones are reserved, and when there is none, none") {
  Units u(8 * kHugeBlocks);
  CHECK(error_of([&] { u.s->reserve(Pfn(0), 1, 1); }) == EINVAL);
  CHECK(error_of([&] { u.s->reserve(Pfn(0), kHugeBlocks + 1, 1); }) == EINVAL);
  // Every second one is taken out, by one block.
  for (uint64_t n = 0; n < 8; n += 2) CHECK(u.s->reserve_at({Pfn(n * kHugeBlocks + 7), 1}));
  CHECK(u.s->reserve(Pfn(5), 4 * kHugeBlocks, 1) == Extent{Pfn(kHugeBlocks), kHugeBlocks});
  CHECK(u.s->reserve(Pfn(7 * kHugeBlocks), 2 * kHugeBlocks, 1) == Extent{Pfn(7 * kHugeBlocks), kHugeBlocks});
  for (int i = 0; i < 2; ++i) CHECK(kUnit.whole(u.s->reserve(Pfn(0), kHugeBlocks, kHugeBlocks)));
  CHECK(u.s->space().blocks_free == 4 * (kHugeBlocks - 1));
  CHECK(error_of([&] { u.s->reserve(Pfn(0), kHugeBlocks, 1); }) == ENOSPC);
  CHECK(error_of([&] { u.s->reserve(Pfn(0), 2 * kHugeBlocks, kHugeBlocks); }) == ENOSPC);
}

TEST_CASE("units: an extent that is not of whole ones is refused, and found by check()") {
  Units u;
  const Ino ino = u.file();
  const Extent e = u.s->reserve(Pfn(0), 2 * kHugeBlocks, 1);
  CHECK(error_of([&] { u.s->commit_extent(ino, {Pgoff(1), e.first, kHugeBlocks}, std::nullopt); }) == EINVAL);
  CHECK(error_of([&] { u.s->commit_extent(ino, {Pgoff(0), e.first + 1, kHugeBlocks}, std::nullopt); }) == EINVAL);
  CHECK(error_of([&] { u.s->commit_extent(ino, {Pgoff(0), e.first, 1}, std::nullopt); }) == EINVAL);
  u.s->commit_extent(ino, {Pgoff(0), e.first, e.count}, std::nullopt);
  CHECK(u.s->check().empty());
  u.s->remove_extents(ino, {Pgoff(3), Pgoff(4)}, std::nullopt);  // nobody does that
  bool found = false;
  for (const std::string& f : u.s->check()) found = found || f.find("not of whole units of 512") != std::string::npos;
  CHECK(found);
}

TEST_CASE("units: a region grows by whole ones") {
  Units u;
  CHECK(error_of([&] { u.s->begin_grow(kBlocks + 1); }) == EINVAL);
  u.s->begin_grow(kBlocks + kHugeBlocks);
  u.s->grow(kBlocks + kHugeBlocks);
  CHECK(u.s->check().empty());
  u.s.reset();
  CHECK(Store::open(u.path)->superblock().geometry.blocks == kBlocks + kHugeBlocks);
}

}  // namespace pmfs::meta::test
