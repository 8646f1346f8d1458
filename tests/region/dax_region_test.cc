// Regions on DAX memory. The cases that need it find it in PMFS_TEST_DIR (a directory on ext4 or xfs with DAX) and
// PMFS_TEST_DEVDAX (a device whose contents are nobody's): the guest of tools/vm has both.
#include <catch2/catch.hpp>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "pmfs/base/error.h"
#include "pmfs/region/raw.h"
#include "pmfs/region/region.h"
#include "pmfs/region/source.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_dir.h"

using namespace pmfs;
using test::error_of;
namespace fs = std::filesystem;

namespace {

constexpr uint64_t kBlocks = 4096;

const char* from_environment(const char* name) {
  const char* s = std::getenv(name);
  if (s == nullptr) WARN(name << " is not set: nothing to try this on");
  return s;
}

VolumeUuid uuid(uint8_t k) {
  VolumeUuid u{};
  u.fill(k);
  return u;
}

struct Fsdax {
  fs::path path;
  std::unique_ptr<Region> region;
  explicit Fsdax(const fs::path& dir, RegionOptions o = {}) : path(dir / "pmfs-region-test") {
    fs::remove(path);
    REQUIRE(look_at_source(dir).kind == RegionKind::kFsdax);
    create_region(path, {RegionKind::kFsdax, kBlocks, true, false, {}, {}});
    region = open_region(path, RegionKind::kFsdax, kBlocks, o);
  }
  ~Fsdax() { fs::remove(path); }
};

bool all(Region& r, Pfn p, uint8_t value) {
  for (uint64_t i = 0; i < kBlockSize; ++i)
    if (r.address(p)[i] != std::byte{value}) return false;
  return true;
}

void zeros_and_canaries(Region& r) {
  std::memset(r.address(Pfn(3)), 0xAA, 2 * kBlockSize);
  r.make_zero({Pfn(3), 2});
  r.hand_out({Pfn(3), 2});
  CHECK(all(r, Pfn(3), 0));
  CHECK(all(r, Pfn(4), 0));
  r.zap({Pfn(3), 2});
  r.address(Pfn(4))[77] = std::byte{1};  // written while it was free
  r.make_zero({Pfn(3), 2});
  CHECK(r.canary_errors() == 1);
  CHECK(r.bad_canary() == Pfn(4));
  CHECK(all(r, Pfn(4), 0));
}

}  // namespace

TEST_CASE("a file system without DAX is refused with the reason, and nothing is left there") {
  fs::path dir;
  for (const char* p : {"/var/tmp", "/tmp", "/", "/sys"}) {
    struct statfs s;
    if (::statfs(p, &s) == 0 && s.f_type != TMPFS_MAGIC && dir.empty()) dir = p;
  }
  REQUIRE(!dir.empty());
  try {
    look_at_source(dir);
    FAIL("taken for a region's memory");
  } catch (const Error& e) {
    CHECK((e.err() == ENOTSUP || e.err() == EOPNOTSUPP));
    CHECK(std::string(e.what()).find("DAX") != std::string::npos);
  }
}

TEST_CASE("what is no devdax device is refused") {
  CHECK(error_of([] { look_at_source("/dev/null"); }) == ENOTSUP);
  CHECK(error_of([] { look_at_source("/etc/passwd"); }) == ENOTSUP);
  CHECK(error_of([] { look_at_source("/dev/dax99.99"); }) == ENOENT);
  test::TempDir d;
  CHECK(error_of([&] { create_region(d / "data", {RegionKind::kDevdax, kBlocks, true, false, "/dev/null", {}}); }) == ENOTSUP);
  CHECK_FALSE(fs::exists(fs::symlink_status(d / "data")));
  CHECK(error_of([&] { open_region(d / "data", RegionKind{9}, kBlocks, {}); }) == ENOTSUP);
}

TEST_CASE("a block that the memory does not give back is an error of its reader alone") {
  test::TempDir d;
  create_region(d / "data", {RegionKind::kShmem, 256, false, false, {}, {}});
  auto r = open_region(d / "data", RegionKind::kShmem, 256, {});
  std::memset(r->address(Pfn(7)), 'a', kBlockSize);
  char c[8] = {};
  r->read(c, Pfn(7), 100, sizeof c);
  CHECK(c[7] == 'a');
  fs::resize_file(d / "data", 100 * kBlockSize);  // as if the rest had gone bad
  CHECK(error_of([&] { r->read(c, Pfn(200), 0, sizeof c); }) == EIO);
  CHECK(error_of([&] { r->copy(Pfn(1), {Pfn(200), 2}); }) == EIO);
  r->read(c, Pfn(7), 0, sizeof c);
}

TEST_CASE("fsdax: allocated, aligned, zeroed when handed out, cache lines are enough") {
  const char* dir = from_environment("PMFS_TEST_DIR");
  if (dir == nullptr) return;
  Fsdax f(dir, {false, true, 0, false, {}});
  CHECK(f.region->granularity() == "cache line");
  CHECK_FALSE(f.region->gated());
  CHECK(f.region->map_sync());
  CHECK(huge_share(f.path) > 0.9);
  struct stat st;
  REQUIRE(::stat(f.path.c_str(), &st) == 0);
  CHECK(static_cast<uint64_t>(st.st_blocks) * 512 >= kBlocks * kBlockSize);
  zeros_and_canaries(*f.region);
}

TEST_CASE("fsdax: a region grows, and is cut back; another manager, or another size, is refused") {
  const char* dir = from_environment("PMFS_TEST_DIR");
  if (dir == nullptr) return;
  Fsdax f(dir);
  CHECK(error_of([&] { open_region(f.path, RegionKind::kFsdax, kBlocks, {}); }) == EBUSY);
  f.region->grow(kBlocks + 100, true);
  std::memset(f.region->address(Pfn(kBlocks + 99)), 1, kBlockSize);
  CHECK(RawRegion(f.path, false).blocks() == kBlocks + 100);
  f.region->cut_back(kBlocks);
  CHECK(fs::file_size(f.path) == kBlocks * kBlockSize);
  f.region.reset();
  CHECK(error_of([&] { open_region(f.path, RegionKind::kFsdax, kBlocks - 1, {}); }) == EUCLEAN);
}

// Not by default: the kernel forgets no block that was called bad.
TEST_CASE("fsdax: blocks that the block device calls bad are known, and reading one is an error", "[.][bad-blocks]") {
  const char* dir = from_environment("PMFS_TEST_DIR");
  REQUIRE(dir != nullptr);
  constexpr Pfn kBad(1000), kGood(3000);  // not of one 2 MiB page
  Fsdax f(dir);
  CHECK(f.region->bad_blocks().empty());
  std::memset(f.region->address(Pfn(0)), 'a', kBlocks * kBlockSize);
  int block = static_cast<int>(kBad.v);
  REQUIRE(::ioctl(f.region->fd(), FIBMAP, &block) == 0);
  f.region.reset();  // and its PTEs
  std::ofstream("/sys/block/pmem0/badblocks") << uint64_t{static_cast<unsigned>(block)} * 8 << " 8\n";
  f.region = open_region(f.path, RegionKind::kFsdax, kBlocks, {});
  const auto bad = f.region->bad_blocks();
  REQUIRE(bad.size() == 1);
  CHECK(bad[0] == Extent{kBad, 1});
  char c[8] = {};
  CHECK(error_of([&] { f.region->read(c, kBad, 0, sizeof c); }) == EIO);
  CHECK(error_of([&] { f.region->copy(kGood, {kBad, 1}); }) == EIO);
  f.region->read(c, kGood + 1, 0, sizeof c);
  CHECK(c[0] == 'a');
}

TEST_CASE("devdax: the device knows whose it is") {
  const char* device = from_environment("PMFS_TEST_DEVDAX");
  if (device == nullptr) return;
  const RegionSource s = look_at_source(device);
  REQUIRE(s.kind == RegionKind::kDevdax);
  const uint64_t whole = s.device_bytes / kBlockSize;
  const Unit unit(s.align_bytes / kBlockSize);
  const uint64_t most = unit.down(whole - 1);
  test::TempDir d;
  const fs::path data = d / "data";
  CHECK(error_of([&] { create_region(data, {RegionKind::kDevdax, whole, true, true, device, {}}); }) == ENOSPC);
  create_region(data, {RegionKind::kDevdax, most, true, true, device, {}});
  label_region(data, RegionKind::kDevdax, uuid(1));
  {
    auto r = open_region(data, RegionKind::kDevdax, most, {false, true, 0, false, uuid(1), unit});
    CHECK(r->granularity() == "cache line");
    CHECK(error_of([&] { r->grow(whole, true); }) == EFBIG);
    CHECK(error_of([&] { open_region(data, RegionKind::kDevdax, most, {false, false, 0, false, uuid(1), unit}); }) == EBUSY);
    zeros_and_canaries(*r);
  }
  CHECK(error_of([&] { open_region(data, RegionKind::kDevdax, most, {false, false, 0, false, uuid(2), unit}); }) == EUCLEAN);
  if (!unit.single()) CHECK(error_of([&] { open_region(data, RegionKind::kDevdax, most, {false, false, 0, false, uuid(1)}); }) == EUCLEAN);
  CHECK(error_of([&] { create_region(d / "other", {RegionKind::kDevdax, kBlocks, true, false, device, {}}); }) == EEXIST);
  RawRegion raw(data, true);
  CHECK(raw.kind() == RegionKind::kDevdax);
  CHECK(raw.blocks() == most);
  REQUIRE(raw.uuid());
  CHECK(*raw.uuid() == uuid(1));
  CHECK(error_of([&] { raw.extend(whole); }) == EFBIG);
}
