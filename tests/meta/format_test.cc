// Making and opening volumes; everything that is not a good volume is refused with a clear error.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "tests/meta/pool_image.h"

namespace pmfs::meta::test {
namespace {

namespace fs = std::filesystem;

fs::path made(const TempDir& d) {
  Store::format(d / "meta", {65536, 1, false});
  return d / "meta";
}

int open_error(const fs::path& p) {
  return error_of([&] { Store::open(p); });
}

std::string open_message(const fs::path& p) {
  return message_of([&] { Store::open(p); });
}

TEST_CASE("format makes an empty volume that only its owner can read") {
  TempDir d;
  Store::format(d / "meta", {70000, 2, true});
  struct stat st;
  REQUIRE(stat((d / "meta").c_str(), &st) == 0);
  CHECK((st.st_mode & 0777) == 0600);
  CHECK(st.st_size == 16 << 20);
  auto s = Store::open(d / "meta");
  Superblock sb = s->superblock();
  CHECK(sb.version == kFormatVersion);
  CHECK(sb.geometry.blocks == 70000);
  CHECK(sb.geometry.region_kind == 2);
  CHECK(sb.geometry.sparse);
  CHECK(sb.mount_epoch == 1);
  CHECK(sb.was_clean);
  InodeAttr root = s->getattr(kRootIno);
  CHECK(root.mode == (S_IFDIR | 0755));
  CHECK(root.nlink == 2);
  CHECK(s->parent(kRootIno) == kRootIno);
  CHECK(s->list(kRootIno, 0, 10).empty());
  CHECK(s->orphans().empty());
  CHECK(s->deferred().empty());
  Space sp = s->space();
  CHECK(sp.blocks_total == 70000);
  CHECK(sp.blocks_free == 70000);
  CHECK(sp.inodes_used == 1);
  CHECK(sp.meta_bytes_total == 16 << 20);
  CHECK(sp.meta_bytes_used > 0);
  CHECK(sp.meta_bytes_used < 1 << 20);
  CHECK(s->check().empty());
}

TEST_CASE("the pool's space is taken at once, of a sparse volume only as it is used") {
  TempDir d;
  struct stat st;
  Store::format(d / "full", {1000, 1, false});
  REQUIRE(stat((d / "full").c_str(), &st) == 0);
  CHECK(st.st_blocks * 512 >= 16 << 20);
  Store::format(d / "sparse", {1000, 1, true}, 256 << 20);
  REQUIRE(stat((d / "sparse").c_str(), &st) == 0);
  CHECK(st.st_size == 256 << 20);
  CHECK(st.st_blocks * 512 < 6 << 20);
  CHECK(Store::open(d / "sparse")->check().empty());
}

TEST_CASE("the metadata pool grows with the region up to 4 GiB") {
  CHECK(default_pool_bytes(1) == 16 << 20);
  CHECK(default_pool_bytes((uint64_t{4} << 30) / kBlockSize) == 128 << 20);
  CHECK(default_pool_bytes((uint64_t{1} << 40) / kBlockSize) == uint64_t{4} << 30);
}

TEST_CASE("format refuses what can't be") {
  TempDir d;
  CHECK(error_of([&] { Store::format(d / "meta", {0, 1, false}); }) == EINVAL);
  CHECK(error_of([&] { Store::format(d / "meta", {kMaxBlocks + 1, 1, false}); }) == EINVAL);
  CHECK(error_of([&] { Store::format(d / "meta", {100, 1, false}, 1 << 20); }) == EINVAL);
  CHECK(error_of([&] { Store::format(d / "no/dir/meta", {100, 1, false}); }) == ENOENT);
  CHECK_FALSE(fs::exists(d / "meta"));
  // 32 MiB of group table don't fit into 8 MiB.
  CHECK(error_of([&] { Store::format(d / "meta", {kMaxBlocks, 1, false}, 8 << 20); }) == ENOSPC);
  CHECK_FALSE(fs::exists(d / "meta"));
  made(d);
  CHECK(error_of([&] { Store::format(d / "meta", {100, 1, false}); }) == EEXIST);
  CHECK(open_error(d / "meta") == 0);  // and the volume that is there is unharmed
}

TEST_CASE("two volumes have different uuids") {
  TempDir d;
  Store::format(d / "a", {100, 1, false});
  Store::format(d / "b", {100, 1, false});
  auto a = Store::open(d / "a"), b = Store::open(d / "b");
  CHECK(std::memcmp(a->superblock().uuid, b->superblock().uuid, 16) != 0);
}

TEST_CASE("a mount is clean only if the one before said so last") {
  Volume v;
  CHECK(v->superblock().was_clean);
  v.reopen();
  CHECK_FALSE(v->superblock().was_clean);
  CHECK(v->superblock().mount_epoch == 2);
  v->mark_clean();
  v.reopen();
  CHECK(v->superblock().was_clean);
  CHECK(v->superblock().mount_epoch == 3);
  v->mark_clean();
  v.file("after all");
  v.reopen();
  CHECK_FALSE(v->superblock().was_clean);
}

TEST_CASE("a volume can be open once") {
  Volume v;
  CHECK(open_error(v.path()) == EBUSY);
  CHECK(open_message(v.path()).find(v.path().string()) != std::string::npos);
  v.close();
  v.open();
}

TEST_CASE("what is not a metadata pool is refused") {
  TempDir d;
  CHECK(open_error(d / "none") == ENOENT);
  CHECK(open_error(d.path()) == EUCLEAN);
  for (size_t bytes : {size_t{0}, size_t{1}, size_t{4096}, size_t{16} << 20}) {
    std::ofstream(d / "foreign") << std::string(bytes, 'x');
    CHECK(open_error(d / "foreign") == EUCLEAN);
  }
  std::ofstream(d / "zeros") << std::string(16 << 20, '\0');
  CHECK(open_error(d / "zeros") == EUCLEAN);
  CHECK(open_message(d / "zeros").find("not a pmfs metadata pool") != std::string::npos);
}

TEST_CASE("a truncated pool is refused, wherever it is cut") {
  TempDir d;
  auto p = made(d);
  for (uintmax_t bytes : {16777216u - 4096u, 12u << 20, 8u << 20, 1u << 20, 8192u, 4096u, 100u, 0u}) {
    fs::resize_file(p, bytes);
    INFO(bytes);
    CHECK(open_error(p) == EUCLEAN);
  }
  fs::remove(p);
  fs::resize_file(made(d), 32 << 20);  // so is one that grew
  CHECK(open_error(p) == EUCLEAN);
}

TEST_CASE("libpmemobj's pools of other programs are refused") {
  TempDir d;
  {
    pool_base other = pool_base::create(d / "other", "something else", 16 << 20);
    other.root(64);
  }
  CHECK(open_error(d / "other") == EUCLEAN);
  pool_base::create(d / "unfinished", layout_name(16 << 20), 16 << 20);
  CHECK(open_error(d / "unfinished") == EUCLEAN);
  { pool_base::create(d / "no magic", layout_name(16 << 20), 16 << 20).root(sizeof(Root)); }
  CHECK(open_error(d / "no magic") == EUCLEAN);
  CHECK(open_message(d / "no magic").find("magic") != std::string::npos);
}

TEST_CASE("a flipped bit anywhere in the superblock is found") {
  TempDir d;
  auto p = made(d);
  PoolImage image(p);
  auto* bytes = reinterpret_cast<uint8_t*>(&image.superblock());
  for (size_t bit = 0; bit < sizeof(SuperblockMedia) * 8; bit += 7) {
    bytes[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    INFO("bit " << bit);
    CHECK(open_error(p) == EUCLEAN);
    bytes[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
  }
  CHECK(open_error(p) == 0);
}

TEST_CASE("versions 1 to 3, which were never released, are refused") {
  const uint32_t version = GENERATE(1u, 2u, 3u);
  TempDir d;
  auto p = d / "meta";
  Store::format(p, {1000, 1, false});
  {
    PoolImage image(p);
    image.superblock().version = version;
    image.seal();
  }
  CHECK(error_of([&] { Store::open(p); }) == ENOTSUP);
  CHECK(message_of([&] { Store::open(p); }).find("mkfs --force") != std::string::npos);
}

TEST_CASE("a newer version is refused with both versions named") {
  TempDir d;
  auto p = made(d);
  PoolImage image(p);
  image.superblock().version = 7;
  image.seal();
  CHECK(open_error(p) == ENOTSUP);
  CHECK(open_message(p).find("version 7") != std::string::npos);
  CHECK(open_message(p).find(fmt::format("up to {}", kFormatVersion)) != std::string::npos);
}

TEST_CASE("unknown features: incompatible and read-only ones are refused, compatible ones are not") {
  TempDir d;
  auto p = made(d);
  PoolImage image(p);
  auto only = [&](uint64_t SuperblockMedia::*field) {
    SuperblockMedia& sb = image.superblock();
    sb.features_compat = sb.features_ro = sb.features_incompat = 0;
    sb.*field = 0x40;
    image.seal();
  };
  only(&SuperblockMedia::features_incompat);
  CHECK(open_error(p) == ENOTSUP);
  CHECK(open_message(p).find("0x40") != std::string::npos);
  only(&SuperblockMedia::features_ro);
  CHECK(open_error(p) == ENOTSUP);
  only(&SuperblockMedia::features_compat);
  CHECK(open_error(p) == 0);
}

TEST_CASE("values that don't fit the pool are refused even if the sum is right") {
  TempDir d;
  auto p = made(d);
  PoolImage image(p);
  SECTION("more blocks than there are groups") {
    image.superblock().blocks = kMaxBlocks;
    image.seal();
  }
  SECTION("a pool of another size") {
    image.superblock().pool_bytes += 4096;
    image.seal();
  }
  SECTION("a table outside of the pool") { image.root().inodes.top.off = 1 << 30; }
  SECTION("a deferred-free list that leads nowhere") {
    PoolImage::set(image.root().deferred_head, {0x5a5a5a5a5a5a5a58});
  }
  CHECK(open_error(p) == EUCLEAN);
}

}  // namespace
}  // namespace pmfs::meta::test
