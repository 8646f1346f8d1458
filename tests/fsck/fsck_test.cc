// fsck finds what is wrong, says where, changes nothing unless asked to, and a repair keeps all that can be kept.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstring>
#include <fstream>

#include <fcntl.h>
#include <sys/stat.h>

#include "pmfs/base/error.h"
#include "pmfs/fs/inode_ref.h"
#include "pmfs/fsck/fsck.h"
#include "tests/meta/pool_image.h"

using namespace pmfs;
using meta::persistent_ptr;
using meta::test::PoolImage;

namespace {

struct Fixture {
  test::TempDir dir;
  std::filesystem::path path = dir.path() / "vol";
  std::unique_ptr<MountedVolume> v;
  Fixture() {
    format_volume(path, {8192, true, false});
    mount();
    v->mkdir("/d", 0755, 1, 2);
    v->mkdir("/d/sub", 0700, 1, 2);
    write("/a", 30'000, 1);
    write("/d/b", 10'000, 2);
    write("/d/sub/c", 5'000, 3);
    {
      InodeRef a = open("/a");
      v->punch(*a, 4096, 8192);
    }
    v.reset();
  }
  void mount() { v = std::make_unique<MountedVolume>(path, VolumeOptions{}); }
  InodeRef open(const char* p) { return {*v, v->open(p, O_RDWR | O_CREAT, 0644, 1, 2)}; }
  void write(const char* p, size_t n, int value) {
    InodeRef i = open(p);
    v->write(*i, std::vector<std::byte>(n, static_cast<std::byte>(value)), 0);
  }
  std::vector<std::byte> read(const std::string& p) {
    InodeRef i(*v, v->open(p, O_RDWR, 0, 0, 0));
    std::vector<std::byte> out(i->i_size.load());
    v->read(*i, out, 0);
    return out;
  }
  bool holds(const std::string& p, size_t n, int value) {
    auto d = read(p);
    return d.size() == n &&
           std::all_of(d.begin(), d.end(), [&](std::byte b) { return b == static_cast<std::byte>(value); });
  }
  Ino ino(const char* p) {
    mount();
    Ino n = v->lookup(p);
    v.reset();
    return n;
  }
  std::string bytes() {
    std::ifstream in(path / "meta", std::ios::binary);
    std::string all(std::filesystem::file_size(path / "meta"), '\0');
    in.read(all.data(), static_cast<std::streamsize>(all.size()));
    return all;
  }
  fsck::Result check() { return fsck::run(path, {}); }
  fsck::Result repair() {
    fsck::Options o;
    o.repair = true;
    return fsck::run(path, o);
  }
  // Found; nothing changed by looking; gone after the repair.
  fsck::Result found_and_repaired(const std::string& text) {
    std::string before = bytes();
    fsck::Result r = check();
    for (const auto& f : r.findings) UNSCOPED_INFO(f.what << " | " << f.path << " | " << f.text);
    CHECK(bytes() == before);
    CHECK(r.exit_code() == 4);
    CHECK(std::any_of(r.findings.begin(), r.findings.end(),
                      [&](const auto& f) { return f.text.find(text) != f.text.npos; }));
    fsck::Result fixed = repair();
    CHECK(fixed.exit_code() == 1);
    CHECK(std::filesystem::exists(fixed.kept));
    fsck::Result again = check();
    for (const auto& f : again.findings) UNSCOPED_INFO("again: " << f.what << " | " << f.path << " | " << f.text);
    CHECK(again.exit_code() == 0);
    mount();
    CHECK(v->store().check().empty());
    return fixed;
  }
};

int error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    INFO(e.what());
    return e.err();
  }
  return 0;
}

TEST_CASE("a volume in order is clean, after a clean stop and after a crash") {
  Fixture f;
  auto r = f.check();
  for (const auto& x : r.findings) UNSCOPED_INFO(x.what << " | " << x.path << " | " << x.text);
  CHECK(r.exit_code() == 0);
  CHECK(r.inodes == 6);
  CHECK(r.directories == 3);
  CHECK(r.blocks_used == 6 + 3 + 2);
  CHECK(f.repair().exit_code() == 0);
  CHECK(f.bytes().size() > 0);
}

TEST_CASE("a volume in use, or none, is refused") {
  Fixture f;
  f.mount();
  CHECK(error_of([&] { f.check(); }) == EBUSY);
  f.v.reset();
  CHECK(error_of([&] { fsck::run(f.dir.path() / "none", {}); }) == ENOENT);
  std::ofstream(f.path / "meta", std::ios::binary | std::ios::trunc) << std::string(9 << 20, 'x');
  CHECK(error_of([&] { f.check(); }) == EUCLEAN);
}

TEST_CASE("wrong counts are put right, everything else stays") {
  Fixture f;
  Ino b = f.ino("/d/b");
  {
    PoolImage image(f.path / "meta");
    SECTION("nlink") { image.inode(b).nlink = 7; }
    SECTION("i_blocks") { image.inode(b).blocks = 77; }
    SECTION("a lost block") { image.at(image.at(image.root().groups)->group[0].bitmap)->word[60] ^= 4; }
    SECTION("a used block that is free in the bitmap") {
      auto r = image.at(image.inode(b).map.root)->records[0];
      image.at(image.at(image.root().groups)->group[0].bitmap)->word[r.a / 64] ^= uint64_t{1} << (r.a % 64);
    }
    SECTION("the free inodes") { PoolImage::set(image.root().inodes.free, 3); }
    SECTION("the orphan list") { PoolImage::set(image.root().orphan_head, 2); }
    SECTION("the ballast") { PoolImage::set(image.root().ballast_count, 3); }
    SECTION("the parent of a directory") { image.inode(Ino{2}).parent = 4; }
    SECTION("the superblock's sum") { image.superblock().hash_key[0] ^= 1; }
    SECTION("the state of an inode") { image.inode(b).state = 0; }
  }
  fsck::Result r = f.found_and_repaired("");
  CHECK(r.lost == 0);
  CHECK(f.holds("/d/b", 10'000, 2));
  CHECK(f.holds("/d/sub/c", 5'000, 3));
  CHECK(f.v->lookup("/d/b") == b);
  auto a = f.read("/a");
  REQUIRE(a.size() == 30'000);
  CHECK(a[4095] == std::byte{1});
  CHECK(a[4096] == std::byte{0});
  CHECK(a[12288] == std::byte{1});
  CHECK(f.v->stat("/d").nlink == 3);
}

TEST_CASE("hard links, symbolic links and extended attributes survive a repair") {
  Fixture f;
  f.mount();
  auto& s = f.v->store();
  Ino a = f.v->lookup("/a");
  std::vector<std::byte> small(10, std::byte{4}), large(20'000, std::byte{5});
  s.link(a, f.v->lookup("/d"), "hard", {});
  Ino link = s.symlink(kRootIno, "soft", "d/b", {}),
      long_link = s.symlink(kRootIno, "long", std::string(3000, 'x'), {});
  s.set_xattr(a, "user.small", small, 0, {});
  s.set_xattr(a, "user.large", large, 0, {});
  s.set_xattr(f.v->lookup("/d"), "user.dir", small, 0, {});
  f.v.reset();
  auto clean = f.check();
  for (const auto& x : clean.findings) UNSCOPED_INFO(x.what << " | " << x.path << " | " << x.text);
  CHECK(clean.exit_code() == 0);
  {
    PoolImage image(f.path / "meta");
    image.inode(a).nlink = 9;
  }
  CHECK(f.found_and_repaired("nlink is 9, should be 2").lost == 0);
  auto& r = f.v->store();
  CHECK(f.v->lookup("/d/hard") == a);
  CHECK(r.readlink(link) == "d/b");
  CHECK(r.readlink(long_link) == std::string(3000, 'x'));
  CHECK(r.get_xattr(a, "user.small", {}) == small);
  CHECK(r.get_xattr(a, "user.large", {}) == large);
  CHECK(r.list_xattrs(f.v->lookup("/d"), {}) == std::vector<std::string>{"user.dir"});
}

// Two files with the same blocks, one of them with a page of its own in the middle, and limits for their owner.
struct SharingFixture : Fixture {
  SharingFixture() {
    mount();
    write("/s", 40'000, 5);
    {
      InodeRef s = open("/s"), t = open("/t"), u = open("/u");
      v->clone_range(*s, 0, *t, 0, 0);
      v->clone_range(*s, 4096, *u, 0, 8192);
      v->write(*t, std::vector<std::byte>(100, std::byte{6}), 8192);
    }
    v->set_quota(meta::QuotaKind::kUser, 1, 1000, 50);
    v->set_quota(meta::QuotaKind::kProject, 7, 0, 9);
    v.reset();
  }
  void all_kept() {
    CHECK(holds("/s", 40'000, 5));
    CHECK(holds("/u", 8192, 5));
    auto t = read("/t");
    REQUIRE(t.size() == 40'000);
    CHECK(t[8191] == std::byte{5});
    CHECK(t[8192] == std::byte{6});
    CHECK(t[39'999] == std::byte{5});
    auto q = v->store().quotas();
    REQUIRE(q.size() == 2);
    CHECK(q[0].block_limit == 1000);
    CHECK(q[0].inode_limit == 50);
    CHECK(q[1].id == 7);
    CHECK(q[1].inode_limit == 9);
    // Still shared, so a write to one is not seen in the other.
    {
      InodeRef s = open("/s");
      v->write(*s, std::vector<std::byte>(5000, std::byte{9}), 4096);
    }
    CHECK(holds("/u", 8192, 5));
    CHECK(v->store().check().empty());
  }
};

TEST_CASE("shared blocks and quotas: in order is clean; owners and usage are counted again by a repair") {
  SharingFixture f;
  auto r = f.check();
  for (const auto& x : r.findings) UNSCOPED_INFO(x.what << " | " << x.path << " | " << x.text);
  REQUIRE(r.exit_code() == 0);
  const uint64_t used = r.blocks_used;
  std::string found;
  {
    PoolImage image(f.path / "meta");
    auto* owners = image.at(image.root().shared.root);
    auto* quotas = image.at(image.root().quotas.root);
    SECTION("a wrong number of owners") {
      owners->records[0].b += 3;
      found = "counted wrongly";
    }
    SECTION("all owners forgotten") {
      owners->magic = 0;
      found = "is damaged; what it led to is lost";
    }
    SECTION("a wrong usage") {
      image.at(persistent_ptr<meta::QuotaMedia>{quotas->records[0].a})->blocks += 5;
      found = "user 1 has";
    }
    SECTION("something else") {
      image.inode(Ino{2}).parent = 4;
      found = "its parent is 4";
    }
  }
  f.found_and_repaired(found);
  f.v.reset();
  CHECK(f.check().blocks_used == used);
  f.mount();
  f.all_kept();
}

TEST_CASE("a quota that is damaged is lost, and said so") {
  SharingFixture f;
  {
    PoolImage image(f.path / "meta");
    image.at(image.root().quotas.root)->records[1].a = 12345;
  }
  CHECK(f.found_and_repaired("it is lost").lost == 1);
  CHECK(f.v->store().quotas().size() == 1);
}

TEST_CASE("an owner that says it is the only one, of blocks that others share: the others get copies") {
  SharingFixture f;
  Ino s = f.ino("/s");
  {
    PoolImage image(f.path / "meta");
    auto* n = image.at(image.inode(s).map.root);
    for (int k = 0; k < n->count; ++k) n->records[k].b &= ~meta::kSharedExtent;
  }
  CHECK(f.found_and_repaired("belong to").lost == 0);
  f.all_kept();
}

TEST_CASE("a file whose name is lost goes to lost+found, whole") {
  Fixture f;
  Ino b = f.ino("/d/b");
  {
    PoolImage image(f.path / "meta");
    auto* n = image.at(image.inode(f.ino("/d")).map.root);
    for (int k = 0; k < n->count; ++k)
      if (n->records[k].b == to_u64(b)) n->records[k].a = 12345;
  }
  fsck::Result r = f.found_and_repaired("is damaged and lost");
  CHECK(f.holds("/lost+found/#" + std::to_string(to_u64(b)), 10'000, 2));
  CHECK(r.lost == 1);
}

TEST_CASE("a directory that leads to itself is cut out and kept with what is in it") {
  Fixture f;
  Ino d = f.ino("/d"), sub = f.ino("/d/sub");
  {
    PoolImage image(f.path / "meta");
    auto* root = image.at(image.inode(kRootIno).map.root);
    for (int k = 0; k < root->count; ++k)
      if (root->records[k].b == to_u64(d)) root->records[k].b = to_u64(f.ino("/a"));
    auto* c = image.at(image.inode(sub).map.root);
    c->records[0].b = to_u64(d);
  }
  f.found_and_repaired("can't be reached from the root");
  std::string home = "/lost+found/#" + std::to_string(to_u64(d));
  CHECK(f.holds(home + "/b", 10'000, 2));
}

TEST_CASE("a block with two owners: both keep their data") {
  Fixture f;
  Ino b = f.ino("/d/b"), c = f.ino("/d/sub/c");
  {
    PoolImage image(f.path / "meta");
    image.at(image.inode(c).map.root)->records[0].a = image.at(image.inode(b).map.root)->records[0].a;
  }
  f.found_and_repaired("belong to");
  CHECK(f.holds("/d/b", 10'000, 2));
  CHECK(f.holds("/d/sub/c", 5'000, 2));  // what its blocks held at the end
  InodeRef i = f.open("/d/b");
  f.v->write(*i, std::vector<std::byte>(100, std::byte{9}), 0);
  CHECK(f.holds("/d/sub/c", 5'000, 2));  // and its own from now on
}

TEST_CASE("a pool that libpmemobj can't open is read without it") {
  Fixture f;
  SECTION("its header is damaged") {
    std::fstream s(f.path / "meta", std::ios::binary | std::ios::in | std::ios::out);
    s.seekp(64);
    s.put('x');
  }
  SECTION("it is cut short") {
    std::filesystem::resize_file(f.path / "meta", std::filesystem::file_size(f.path / "meta") - 4096);
  }
  f.found_and_repaired("libpmemobj can't open it");
  CHECK(f.holds("/d/b", 10'000, 2));
}

TEST_CASE("a region that is cut short: what was there is lost and said so") {
  Fixture f;
  std::filesystem::resize_file(f.path / "data", 4096 * 4);
  fsck::Result r = f.found_and_repaired("the region has 4 blocks");
  CHECK(r.lost > 0);
  CHECK(f.read("/d/b").size() == 10'000);
}

TEST_CASE("a superblock older than a grow: the region is as long as it is, and all of it the volume's") {
  Fixture f;
  std::string old;
  constexpr size_t kSuperblock = 256;
  size_t at = 0;
  {
    const std::string all = f.bytes();
    at = all.find("PMFSMETA");
    REQUIRE(at != all.npos);
    old = all.substr(at, kSuperblock);
  }
  f.mount();
  f.v->grow(9000);
  f.v.reset();
  {
    std::fstream meta(f.path / "meta", std::ios::in | std::ios::out | std::ios::binary);
    meta.seekp(static_cast<std::streamoff>(at));
    meta.write(old.data(), static_cast<std::streamsize>(old.size()));
  }
  CHECK(error_of([&] { f.mount(); }) == EUCLEAN);
  CHECK(f.found_and_repaired("the superblock, an older one, says 8192").lost == 0);
  CHECK(f.v->region().blocks() == 9000);
  CHECK(f.holds("/d/b", 10'000, 2));
}

TEST_CASE("an attribute whose name can be none is lost and said so") {
  Fixture f;
  f.mount();
  f.v->store().set_xattr(f.v->lookup("/a"), "user.odd", std::vector<std::byte>(10, std::byte{4}), 0, {});
  f.v->store().set_xattr(f.v->lookup("/a"), "user.good", std::vector<std::byte>(10, std::byte{4}), 0, {});
  f.v.reset();
  const size_t at = f.bytes().find("user.odd");
  REQUIRE(at != std::string::npos);
  {
    std::fstream meta(f.path / "meta", std::ios::in | std::ios::out | std::ios::binary);
    meta.seekp(static_cast<std::streamoff>(at));
    meta.write("user,odd", 8);
  }
  CHECK(f.found_and_repaired("is damaged and lost").lost == 1);
  CHECK(f.v->store().list_xattrs(f.v->lookup("/a"), {}) == std::vector<std::string>{"user.good"});
}

TEST_CASE("memory of the pool that is in use but not allocated, or allocated and not in use, is found") {
  Fixture f;
  {
    meta::Media m = meta::open_pool(f.path / "meta");
    meta::transaction::run(m.pop, [&] { meta::make_persistent<meta::Node>(); });
  }
  f.found_and_repaired("1 objects of");
}

TEST_CASE("a root directory that is gone: all files are in lost+found") {
  Fixture f;
  {
    PoolImage image(f.path / "meta");
    image.inode(kRootIno).map.root.off = 99;
  }
  f.found_and_repaired("is outside of the pool");
  CHECK(f.v->list("/lost+found", 0, 100).size() == 2);
}

TEST_CASE("a newer volume is not touched") {
  Fixture f;
  {
    PoolImage image(f.path / "meta");
    image.superblock().features_incompat = 1ull << 40;
    image.seal();
  }
  std::string before = f.bytes();
  CHECK(error_of([&] { f.repair(); }) == ENOTSUP);
  CHECK(f.bytes() == before);
}

}  // namespace
