// Extended attributes: values of every size, flags, limits, who may, and what is left of them.
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <random>

#include "tests/meta/meta_fixture.h"
#include "tests/meta/pool_image.h"

namespace pmfs::meta::test {
namespace {

const Credentials kRoot{};
const Credentials kAnn{100, 10};

std::vector<std::byte> bytes(size_t n, unsigned seed = 1) {
  std::vector<std::byte> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = static_cast<std::byte>((i * 7 + i / 4088 + seed) & 255);
  return v;
}

TEST_CASE("a value of any size up to the limit is read as it was set, over a reopen") {
  Volume v;
  Ino f = v.file("f");
  std::vector<size_t> sizes{0, 1, 8, 900, 980, 981, 982, 983, 984, 985, 986, 987, 988, 4096, 5073, 5074, 5075, 40000, 65536};
  for (size_t n : sizes) v->set_xattr(f, "user.v" + std::to_string(n), bytes(n, static_cast<unsigned>(n)), 0, kRoot);
  v.reopen();
  for (size_t n : sizes)
    CHECK(v->get_xattr(f, "user.v" + std::to_string(n), kRoot) == bytes(n, static_cast<unsigned>(n)));
  CHECK(v->list_xattrs(f, kRoot).size() == sizes.size());
  CHECK(error_of([&] { v->set_xattr(f, "user.x", bytes(65537), 0, kRoot); }) == E2BIG);
  for (size_t n : sizes) v->remove_xattr(f, "user.v" + std::to_string(n), kRoot);
  CHECK(v->list_xattrs(f, kRoot).empty());
}

TEST_CASE("create, replace, remove") {
  Volume v;
  Ino f = v.file("f");
  CHECK(error_of([&] { v->set_xattr(f, "user.a", bytes(3), kXattrReplace, kRoot); }) == ENODATA);
  v->set_xattr(f, "user.a", bytes(3), kXattrCreate, kRoot);
  CHECK(error_of([&] { v->set_xattr(f, "user.a", bytes(4), kXattrCreate, kRoot); }) == EEXIST);
  CHECK(v->get_xattr(f, "user.a", kRoot) == bytes(3));
  v->set_xattr(f, "user.a", bytes(5000), kXattrReplace, kRoot);
  v->set_xattr(f, "user.a", bytes(7), 0, kRoot);
  CHECK(v->get_xattr(f, "user.a", kRoot) == bytes(7));
  CHECK(error_of([&] { v->set_xattr(f, "user.a", bytes(4), 4, kRoot); }) == EINVAL);
  CHECK(error_of([&] { v->get_xattr(f, "user.b", kRoot); }) == ENODATA);
  CHECK(error_of([&] { v->remove_xattr(f, "user.b", kRoot); }) == ENODATA);
  v->remove_xattr(f, "user.a", kRoot);
  CHECK(error_of([&] { v->get_xattr(f, "user.a", kRoot); }) == ENODATA);
}

TEST_CASE("names: prefixes, lengths, and who may") {
  Volume v;
  Ino f = v->create(kRootIno, "f", 0644, kAnn), d = v->mkdir(kRootIno, "d", 0755, kAnn);
  Ino l = v->symlink(kRootIno, "l", "f", kAnn), sticky = v->mkdir(kRootIno, "sticky", 01777, kRoot);
  auto set = [&](Ino i, const std::string& n, const Credentials& who) {
    return error_of([&] { v->set_xattr(i, n, bytes(1), 0, who); });
  };
  CHECK(set(f, "user.", kRoot) == EINVAL);
  CHECK(set(f, "", kRoot) == ERANGE);
  CHECK(set(f, "system.posix_acl_access", kRoot) == EOPNOTSUPP);
  CHECK(set(f, "username", kRoot) == EOPNOTSUPP);
  CHECK(set(f, std::string("user.a\0b", 8), kRoot) == EINVAL);
  CHECK(set(f, "user." + std::string(250, 'n'), kRoot) == 0);
  CHECK(set(f, "user." + std::string(251, 'n'), kRoot) == ERANGE);
  CHECK(set(f, "user.a", kAnn) == 0);
  CHECK(set(d, "user.a", kAnn) == 0);
  CHECK(set(l, "user.a", kRoot) == EPERM);
  CHECK(set(l, "trusted.a", kRoot) == 0);
  CHECK(set(sticky, "user.a", kAnn) == EPERM);
  CHECK(set(sticky, "user.a", kRoot) == 0);
  CHECK(set(f, "trusted.a", kAnn) == EPERM);
  CHECK(set(f, "security.a", kAnn) == EPERM);
  CHECK(set(f, "trusted.a", kRoot) == 0);
  CHECK(set(f, "security.a", kRoot) == 0);
  CHECK(error_of([&] { v->remove_xattr(f, "security.a", kAnn); }) == EPERM);
  // trusted.* can't even be seen.
  CHECK(error_of([&] { v->get_xattr(f, "trusted.a", kAnn); }) == ENODATA);
  CHECK(v->get_xattr(f, "security.a", kAnn) == bytes(1));
  CHECK(v->list_xattrs(f, kRoot).size() == v->list_xattrs(f, kAnn).size() + 1);
}

TEST_CASE("the names of one inode always fit a list") {
  Volume v(65536, 64 << 20);
  Ino f = v.file("f");
  uint64_t list = 0;
  auto name = [](int i) {
    std::string n = "user." + std::to_string(i);
    return n + std::string(255 - n.size(), 'n');
  };
  int i = 0;
  for (; list + 256 <= kMaxXattrList; ++i, list += 256) v->set_xattr(f, name(i), {}, 0, kRoot);
  CHECK(error_of([&] { v->set_xattr(f, name(i), {}, 0, kRoot); }) == ENOSPC);
  v->set_xattr(f, name(0), bytes(10), 0, kRoot);  // one that is there changes no list
  uint64_t got = 0;
  for (const auto& n : v->list_xattrs(f, kRoot)) got += n.size() + 1;
  CHECK(got == list);
  v->remove_xattr(f, name(1), kRoot);
  v->set_xattr(f, name(i), {}, 0, kRoot);
}

TEST_CASE("attributes agree with a plain map, whatever is done to them, and leave nothing behind") {
  Volume v;
  Ino warm = v.file("warm");
  v->set_xattr(warm, "user.w", bytes(9000), 0, kRoot);
  v->unlink(kRootIno, "warm");
  v->free_inode(warm);
  uint64_t before = v->space().meta_bytes_used;
  Ino f = v.file("f");
  std::map<std::string, std::vector<std::byte>> model;
  std::mt19937_64 rng(3);
  for (int step = 0; step < 600; ++step) {
    std::string name = (rng() % 2 ? "user." : "trusted.") + std::to_string(rng() % 60);
    if (rng() % 3 == 0) {
      CHECK((error_of([&] { v->remove_xattr(f, name, kRoot); }) == 0) == (model.erase(name) == 1));
    } else {
      auto value = bytes(rng() % (rng() % 8 ? 300 : 20000), static_cast<unsigned>(rng()));
      v->set_xattr(f, name, value, 0, kRoot);
      model[name] = value;
    }
    if (step % 100 == 99) {
      v.reopen();
      REQUIRE(v->check().empty());
      auto names = v->list_xattrs(f, kRoot);
      REQUIRE(names.size() == model.size());
      for (const auto& n : names) REQUIRE(v->get_xattr(f, n, kRoot) == model.at(n));
    }
  }
  v->unlink(kRootIno, "f");
  v->free_inode(f);
  CHECK(v->space().meta_bytes_used == before);
}

// A transaction too long for the logs that libpmemobj has would make it allocate others.
TEST_CASE("freeing many large attributes costs no memory, however often the volume is opened") {
  Volume v;
  auto round = [&] {
    v.reopen();
    Ino f = v.file("f");
    for (int i = 0; i < 60; ++i) v->set_xattr(f, "user." + std::to_string(i), bytes(20000), 0, kRoot);
    v->unlink(kRootIno, "f");
    v->free_inode(f);
    return v->space().meta_bytes_used;
  };
  const uint64_t before = round();
  for (int i = 0; i < 3; ++i) CHECK(round() == before);
}

TEST_CASE("an attribute that doesn't fit the pool is ENOSPC and changes nothing; removing works on a full pool") {
  Volume v(4096, 8 << 20);
  Ino f = v.file("f"), g = v.file("g");
  int set = 0;
  while (error_of([&] { v->set_xattr(f, "user." + std::to_string(set), bytes(60000), 0, kRoot); }) == 0) ++set;
  REQUIRE(set > 10);
  CHECK(error_of([&] { v->set_xattr(f, "user.0", bytes(65536, 9), 0, kRoot); }) == ENOSPC);
  CHECK(v->get_xattr(f, "user.0", kRoot) == bytes(60000));
  REQUIRE(v->check().empty());
  v->remove_xattr(f, "user.1", kRoot);
  v->unlink(kRootIno, "f");
  v->free_inode(f);
  v->set_xattr(g, "user.again", bytes(60000), 0, kRoot);
}

TEST_CASE("a write takes a program's privileges, and nothing else") {
  Volume v;
  Ino f = v->create(kRootIno, "f", 06751, kAnn), d = v->mkdir(kRootIno, "d", 02755, kAnn);
  CHECK_FALSE(v->drop_privileges(f, false));  // root's own write keeps the bits
  v->set_xattr(f, "security.capability", bytes(20), 0, kRoot);
  v->set_xattr(f, "user.a", bytes(20), 0, kRoot);
  CHECK(v->drop_privileges(f, false));
  CHECK(v->getattr(f).mode == (S_IFREG | 06751));
  CHECK(v->list_xattrs(f, kRoot) == std::vector<std::string>{"user.a"});
  CHECK(v->drop_privileges(f, true));
  CHECK(v->getattr(f).mode == (S_IFREG | 0751));
  CHECK_FALSE(v->drop_privileges(f, true));
  v->set_attr(f, {02741, {}, {}, {}, {}}, kRoot);  // no group execute: mandatory locking once, not a program's
  CHECK_FALSE(v->drop_privileges(f, true));
  CHECK_FALSE(v->drop_privileges(d, true));
  v.reopen();
  CHECK(v->getattr(f).mode == (S_IFREG | 02741));
  CHECK(v->check().empty());
}

TEST_CASE("check finds a damaged attribute") {
  TempDir d;
  Store::format(d / "meta", {1000, 1, false});
  Ino f;
  {
    auto s = Store::open(d / "meta");
    f = s->create(kRootIno, "f", 0600, 0, 0);
    s->set_xattr(f, "user.a", bytes(100), 0, kRoot);
    REQUIRE(s->check().empty());
  }
  {
    PoolImage image(d / "meta");
    Node* root = image.at(image.inode(f).xattrs.root);
    SECTION("a name of another hash") { image.at(persistent_ptr<XattrMedia>{root->records[0].a})->name_bytes = 5; }
    SECTION("a wrong size") { image.at(persistent_ptr<XattrMedia>{root->records[0].a})->value_bytes = 101; }
    SECTION("a wrong count of names") { image.inode(f).xattr_list_bytes = 1; }
    SECTION("a pointer to nowhere") { root->records[0].a = ~uint64_t{7}; }
    image.seal_all();
  }
  auto findings = Store::open(d / "meta")->check();
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].find("attribute") != std::string::npos);
}

}  // namespace
}  // namespace pmfs::meta::test
