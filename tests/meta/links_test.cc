// Hard links and symbolic links.
#include <sys/stat.h>

#include "tests/meta/meta_fixture.h"
#include "tests/meta/pool_image.h"

namespace pmfs::meta::test {
namespace {

const Credentials kRoot{};

TEST_CASE("a file lives as long as one of its names, over a reopen too") {
  Volume v;
  Ino d = v->mkdir(kRootIno, "d", 0700, kRoot);
  Ino f = v.file("f");
  v.add(f, 0, 3);
  v->link(f, d, "g", kRoot);
  v->link(f, kRootIno, "h", kRoot);
  CHECK(v->getattr(f).nlink == 3);
  CHECK(v->lookup(d, "g") == f);
  CHECK_FALSE(v->unlink(kRootIno, "f").last_link);
  v.reopen();
  CHECK(v->getattr(f).nlink == 2);
  CHECK(v->orphans().empty());
  CHECK_FALSE(v->unlink(d, "g").last_link);
  CHECK(v->unlink(kRootIno, "h").last_link);
  CHECK(v->orphans() == std::vector<Ino>{f});
  SECTION("what has lost its last name gets no new one") {
    CHECK(error_of([&] { v->link(f, d, "again", kRoot); }) == ENOENT);
  }
  v.free(f, kWholeFile);
  v->free_inode(f);
}

TEST_CASE("what link refuses") {
  Volume v;
  Ino d = v->mkdir(kRootIno, "d", 0700, kRoot), f = v.file("f");
  CHECK(error_of([&] { v->link(d, kRootIno, "e", kRoot); }) == EPERM);
  CHECK(error_of([&] { v->link(f, kRootIno, "d", kRoot); }) == EEXIST);
  CHECK(error_of([&] { v->link(f, kRootIno, "f", kRoot); }) == EEXIST);
  CHECK(error_of([&] { v->link(f, f, "x", kRoot); }) == ENOTDIR);
  CHECK(error_of([&] { v->link(Ino{99}, kRootIno, "x", kRoot); }) == ENOENT);
  CHECK(error_of([&] { v->link(f, kRootIno, std::string(256, 'x'), kRoot); }) == ENAMETOOLONG);
  CHECK(v->getattr(f).nlink == 1);
}

TEST_CASE("rename between two names of one file does nothing; over one of several it takes a link") {
  Volume v;
  Ino f = v.file("f"), g = v.file("g");
  v->link(f, kRootIno, "f2", kRoot);
  CHECK_FALSE(v->rename(kRootIno, "f", kRootIno, "f2"));
  CHECK(v->lookup(kRootIno, "f") == f);
  auto replaced = v->rename(kRootIno, "g", kRootIno, "f2");
  REQUIRE(replaced);
  CHECK(replaced->ino == f);
  CHECK_FALSE(replaced->last_link);
  CHECK(v->getattr(f).nlink == 1);
  CHECK(v->lookup(kRootIno, "f2") == g);
}

TEST_CASE("a symbolic link says what it was told, of any length up to the limit") {
  Volume v;
  for (size_t n : {1, 7, 8, 9, 1008, 1009, 4095}) {
    std::string target(n, 't'), name = "l" + std::to_string(n);
    Ino l = v->symlink(kRootIno, name, target, Credentials{7, 8});
    v.reopen();
    CHECK(v->readlink(l) == target);
    InodeAttr a = v->getattr(l);
    CHECK(a.mode == (S_IFLNK | 0777));
    CHECK(a.size == n);
    CHECK(a.uid == 7);
    CHECK(a.nlink == 1);
    CHECK(error_of([&] { v->extents(l, kWholeFile, 1); }) == EINVAL);
    CHECK(error_of([&] { v->grow_size(l, 10000); }) == EINVAL);
  }
  CHECK(error_of([&] { v->symlink(kRootIno, "x", "", kRoot); }) == ENOENT);
  CHECK(error_of([&] { v->symlink(kRootIno, "x", std::string(4096, 't'), kRoot); }) == ENAMETOOLONG);
  CHECK(error_of([&] { v->symlink(kRootIno, "x", std::string_view("a\0b", 3), kRoot); }) == EINVAL);
  CHECK(error_of([&] { v->symlink(kRootIno, "l1", "t", kRoot); }) == EEXIST);
  CHECK(error_of([&] { v->readlink(kRootIno); }) == EINVAL);
  CHECK(error_of([&] { v->readlink(v.file("f")); }) == EINVAL);
}

TEST_CASE("a symbolic link can have two names, and gives its memory back") {
  Volume v;
  Ino warm = v->symlink(kRootIno, "warm", std::string(3000, 't'), kRoot);
  v->link(warm, kRootIno, "too", kRoot);  // places for two names, which stay (spare_names.h)
  v->unlink(kRootIno, "too");
  v->unlink(kRootIno, "warm");
  v->free_inode(warm);
  uint64_t before = v->space().meta_bytes_used;
  Ino l = v->symlink(kRootIno, "l", std::string(3000, 't'), kRoot);
  v->link(l, kRootIno, "m", kRoot);
  CHECK_FALSE(v->unlink(kRootIno, "l").last_link);
  CHECK(v->unlink(kRootIno, "m").last_link);
  CHECK(v->remove_extents(l, kWholeFile, 0).id == 0);
  CHECK(v->readlink(l).size() == 3000);  // who knows it still may ask
  v->free_inode(l);
  CHECK(v->space().meta_bytes_used == before);
}

TEST_CASE("check finds a symbolic link without its target") {
  TempDir d;
  Store::format(d / "meta", {1000, 1, false});
  Ino l;
  {
    auto s = Store::open(d / "meta");
    l = s->symlink(kRootIno, "l", "target", kRoot);
    REQUIRE(s->check().empty());
  }
  {
    PoolImage image(d / "meta");
    image.inode(l).target.off = image.superblock().pool_bytes - 2;
    image.seal_all();
  }
  auto findings = Store::open(d / "meta")->check();
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].find("target") != std::string::npos);
}

}  // namespace
}  // namespace pmfs::meta::test
