// The namespace: names, directories, rename, link counts, orphans, attributes.
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "pmfs/meta/directory.h"
#include "pmfs/meta/store_impl.h"
#include "pmfs/meta/superblock.h"
#include "tests/meta/meta_fixture.h"

namespace pmfs::meta::test {
namespace {

TEST_CASE("a created file is found by its name and has the attributes asked for") {
  Volume v;
  int64_t before = now_ns();
  Ino f = v->create(kRootIno, "f", 0640 | S_ISGID, 7, 8);
  CHECK(v->lookup(kRootIno, "f") == f);
  InodeAttr a = v->getattr(f);
  CHECK(a.ino == f);
  CHECK(a.mode == (S_IFREG | 0640 | S_ISGID));
  CHECK(a.uid == 7);
  CHECK(a.gid == 8);
  CHECK(a.nlink == 1);
  CHECK(a.size == 0);
  CHECK(a.blocks == 0);
  CHECK(a.btime_ns >= before);
  CHECK(a.btime_ns <= now_ns());
  CHECK(v->getattr(kRootIno).mtime_ns == a.btime_ns);
  CHECK(v->getattr(kRootIno).size == 1);
}

TEST_CASE("every operation says why a name is no good") {
  Volume v;
  Ino f = v.file("f");
  Ino dir = v->mkdir(kRootIno, "d", 0755, 0, 0);
  for (std::string bad :
       {std::string(""), std::string("."), std::string(".."), std::string("a/b"), std::string("a\0b", 3)}) {
    CHECK(error_of([&] { v->lookup(kRootIno, bad); }) == EINVAL);
    CHECK(error_of([&] { v.file(bad); }) == EINVAL);
    CHECK(error_of([&] { v->mkdir(kRootIno, bad, 0, 0, 0); }) == EINVAL);
    CHECK(error_of([&] { v->unlink(kRootIno, bad); }) == EINVAL);
    CHECK(error_of([&] { v->rmdir(kRootIno, bad); }) == EINVAL);
    CHECK(error_of([&] { v->rename(kRootIno, bad, kRootIno, "x"); }) == EINVAL);
    CHECK(error_of([&] { v->rename(kRootIno, "f", kRootIno, bad); }) == EINVAL);
  }
  std::string longest(kMaxName, 'n'), longer(kMaxName + 1, 'n');
  CHECK(error_of([&] { v.file(longer); }) == ENAMETOOLONG);
  CHECK(error_of([&] { v->lookup(kRootIno, longer); }) == ENAMETOOLONG);
  Ino l = v.file(longest);
  CHECK(v->lookup(kRootIno, longest) == l);
  CHECK(error_of([&] { v->lookup(kRootIno, "none"); }) == ENOENT);
  CHECK(error_of([&] { v->unlink(kRootIno, "none"); }) == ENOENT);
  CHECK(error_of([&] { v->rmdir(kRootIno, "none"); }) == ENOENT);
  CHECK(error_of([&] { v->rename(kRootIno, "none", kRootIno, "x"); }) == ENOENT);
  CHECK(error_of([&] { v->lookup(Ino{4711}, "x"); }) == ENOENT);
  CHECK(error_of([&] { v->getattr(Ino{0}); }) == ENOENT);
  CHECK(error_of([&] { v->getattr(Ino{4711}); }) == ENOENT);
  CHECK(error_of([&] { v->lookup(f, "x"); }) == ENOTDIR);
  CHECK(error_of([&] { v->create(f, "x", 0, 0, 0); }) == ENOTDIR);
  CHECK(error_of([&] { v->list(f, 0, 1); }) == ENOTDIR);
  CHECK(error_of([&] { v->parent(f); }) == ENOTDIR);
  CHECK(error_of([&] { v->rename(kRootIno, "f", f, "x"); }) == ENOTDIR);
  CHECK(error_of([&] { v.file("f"); }) == EEXIST);
  CHECK(error_of([&] { v.file("d"); }) == EEXIST);
  CHECK(error_of([&] { v->mkdir(kRootIno, "f", 0, 0, 0); }) == EEXIST);
  CHECK(error_of([&] { v->unlink(kRootIno, "d"); }) == EISDIR);
  CHECK(error_of([&] { v->rmdir(kRootIno, "f"); }) == ENOTDIR);
  CHECK(error_of([&] { v->lookup_extent(dir, Pgoff(0)); }) == EISDIR);
  CHECK(error_of([&] { v->grow_size(dir, 1); }) == EISDIR);
}

TEST_CASE("directories count their subdirectories and know their parent") {
  Volume v;
  Ino a = v->mkdir(kRootIno, "a", 0700, 1, 1);
  Ino b = v->mkdir(a, "b", 0700, 1, 1);
  v->create(b, "f", 0600, 1, 1);
  CHECK(v->getattr(kRootIno).nlink == 3);
  CHECK(v->getattr(a).nlink == 3);
  CHECK(v->getattr(b).nlink == 2);
  CHECK(v->parent(b) == a);
  CHECK(error_of([&] { v->rmdir(kRootIno, "a"); }) == ENOTEMPTY);
  CHECK(error_of([&] { v->rmdir(a, "b"); }) == ENOTEMPTY);
  v->unlink(b, "f");
  Unlinked u = v->rmdir(a, "b");
  CHECK(u.ino == b);
  CHECK(u.last_link);
  CHECK(v->getattr(a).nlink == 2);
  CHECK(error_of([&] { v->lookup(a, "b"); }) == ENOENT);
  SECTION("a removed directory takes no new names") {
    CHECK(error_of([&] { v->create(b, "g", 0, 0, 0); }) == ENOENT);
    CHECK(error_of([&] { v->rename(kRootIno, "a", b, "x"); }) == ENOENT);
    CHECK(error_of([&] { v->parent(b); }) == ENOENT);
    CHECK(v->list(b, 0, 10).empty());
  }
  SECTION("and is an orphan until it is freed") {
    CHECK(v->remove_extents(b, kWholeFile, 0).id == 0);
    v->free_inode(b);
    CHECK(error_of([&] { v->getattr(b); }) == ENOENT);
  }
}

TEST_CASE("what nobody has is freed with its last name") {
  Volume v;
  const Credentials root{};
  std::vector<Ino> asked;
  const Claim nobody = [&](Ino ino, uint32_t) {
    asked.push_back(ino);
    return true;
  };
  const Claim somebody = [&](Ino ino, uint32_t) {
    asked.push_back(ino);
    return false;
  };
  Ino f = v.file("f");
  const uint64_t generation = v->getattr(f).generation;
  SECTION("a file") {
    Unlinked u = v->unlink(kRootIno, "f", root, nobody);
    CHECK((u.ino == f && u.last_link && u.freed && S_ISREG(u.mode)));
    CHECK(asked == std::vector{f});
    CHECK(error_of([&] { v->getattr(f); }) == ENOENT);
    CHECK(v.file("g") == f);  // the number again, for another file
    CHECK(v->getattr(f).generation == generation + 1);
    v->unlink(kRootIno, "g", root, nobody);
  }
  SECTION("a directory, a symbolic link, one with attributes") {
    Ino d = v->mkdir(kRootIno, "d", 0755, 0, 0);
    v->symlink(kRootIno, "l", "f", root);
    v->set_xattr(f, "user.x", {}, 0, root);
    CHECK(v->rmdir(kRootIno, "d", root, nobody).freed);
    CHECK(v->unlink(kRootIno, "l", root, nobody).freed);
    CHECK(v->unlink(kRootIno, "f", root, nobody).freed);
    CHECK(v->getattr(kRootIno).nlink == 2);
    CHECK(error_of([&] { v->getattr(d); }) == ENOENT);
  }
  SECTION("replaced by a rename") {
    Ino g = v.file("g");
    auto u = v->rename(kRootIno, "g", kRootIno, "f", 0, root, nobody);
    CHECK((u && u->ino == f && u->last_link && u->freed));
    CHECK(v->lookup(kRootIno, "f") == g);
    v->unlink(kRootIno, "f", root, nobody);
  }
  SECTION("not what somebody has") {
    Unlinked u = v->unlink(kRootIno, "f", root, somebody);
    CHECK((u.last_link && !u.freed));
    CHECK(asked == std::vector{f});
    CHECK(v->orphans() == std::vector{f});
    v->free_inode(f);
  }
  SECTION("nor what has another name, or blocks, or more attributes than one transaction frees: nobody is asked") {
    v->link(f, kRootIno, "f2", root);
    Unlinked u = v->unlink(kRootIno, "f", root, nobody);
    CHECK((!u.last_link && !u.freed && asked.empty()));
    v.add(f, 0, 4);
    u = v->unlink(kRootIno, "f2", root, nobody);
    CHECK((u.last_link && !u.freed && asked.empty()));
    v.free(f, kWholeFile);
    v->free_inode(f);
    Ino g = v.file("g");
    for (int k = 0; k < 40; ++k) v->set_xattr(g, "user." + std::to_string(k), {}, 0, root);
    CHECK_FALSE(v->unlink(kRootIno, "g", root, nobody).freed);
    CHECK(asked.empty());
    v->free_inode(g);
  }
  SECTION("nor by an unlink that fails, or an exchange") {
    CHECK(error_of([&] { v->unlink(kRootIno, "none", root, nobody); }) == ENOENT);
    Ino d = v->mkdir(kRootIno, "d", 0755, 0, 0);
    v->create(d, "x", 0600, 0, 0);
    CHECK(error_of([&] { v->rmdir(kRootIno, "d", root, nobody); }) == ENOTEMPTY);
    CHECK_FALSE(v->rename(kRootIno, "f", kRootIno, "d", kRenameExchange, root, nobody));
    CHECK(asked.empty());
    v->unlink(d, "x", root, nobody);
    v->rmdir(kRootIno, "f", root, nobody);
    v->unlink(kRootIno, "d", root, nobody);
  }
  v.reopen();
  CHECK(v->check().empty());
  CHECK(v->orphans().empty());
  CHECK(v->space().inodes_used == 1);
}

TEST_CASE("an unlinked file is an orphan until freed, over a reopen too") {
  Volume v;
  Ino f = v.file("f"), g = v.file("g"), h = v.file("h");
  v.add(f, 0, 4);
  CHECK(error_of([&] { v->free_inode(f); }) == EBUSY);
  Unlinked u = v->unlink(kRootIno, "f");
  CHECK(u.ino == f);
  CHECK(u.last_link);
  v->unlink(kRootIno, "g");
  v->unlink(kRootIno, "h");
  CHECK(v->getattr(f).nlink == 0);
  v.reopen();
  auto o = v->orphans();
  CHECK(std::set<Ino>(o.begin(), o.end()) == std::set<Ino>{f, g, h});
  CHECK(v->check().empty());
  CHECK(v->lookup_extent(f, Pgoff(1)));  // who has it open goes on
  CHECK(error_of([&] { v->free_inode(f); }) == EBUSY);
  v.free(f, kWholeFile);
  v->free_inode(g);  // out of the middle of the list
  v->free_inode(f);
  CHECK(v->orphans() == std::vector<Ino>{h});
  v->free_inode(h);
  CHECK(v->orphans().empty());
  CHECK(v->space().inodes_used == 1);
  CHECK(v->space().blocks_free == v->space().blocks_total);
}

TEST_CASE("a reused ino has a new generation and nothing of the old inode") {
  Volume v;
  Ino f = v.file("f");
  v->grow_size(f, 12345);
  uint64_t generation = v->getattr(f).generation;
  v->unlink(kRootIno, "f");
  v->free_inode(f);
  Ino g = v.file("g");
  CHECK(g == f);
  CHECK(v->getattr(g).generation > generation);
  CHECK(v->getattr(g).size == 0);
}

TEST_CASE("rename within and between directories") {
  Volume v;
  Ino a = v->mkdir(kRootIno, "a", 0700, 0, 0), b = v->mkdir(kRootIno, "b", 0700, 0, 0);
  Ino f = v->create(a, "f", 0600, 0, 0);
  CHECK_FALSE(v->rename(a, "f", a, "g"));
  CHECK(error_of([&] { v->lookup(a, "f"); }) == ENOENT);
  CHECK(v->lookup(a, "g") == f);
  CHECK_FALSE(v->rename(a, "g", b, "h"));
  CHECK(v->lookup(b, "h") == f);
  CHECK(v->list(a, 0, 10).empty());
  CHECK_FALSE(v->rename(b, "h", b, "h"));  // onto itself: nothing
  CHECK(v->lookup(b, "h") == f);
  SECTION("over a file: that loses its name") {
    Ino g = v->create(a, "g", 0600, 0, 0);
    auto replaced = v->rename(b, "h", a, "g");
    REQUIRE(replaced);
    CHECK(replaced->ino == g);
    CHECK(replaced->last_link);
    CHECK(v->lookup(a, "g") == f);
    CHECK(v->orphans() == std::vector<Ino>{g});
  }
  SECTION("a directory moves with its parent's counts") {
    Ino c = v->mkdir(a, "c", 0700, 0, 0);
    v->rename(a, "c", b, "c");
    CHECK(v->parent(c) == b);
    CHECK(v->getattr(a).nlink == 2);
    CHECK(v->getattr(b).nlink == 3);
  }
  SECTION("a directory over an empty directory") {
    auto replaced = v->rename(kRootIno, "b", kRootIno, "a");
    REQUIRE(replaced);
    CHECK(replaced->ino == a);
    CHECK(v->lookup(kRootIno, "a") == b);
    CHECK(v->getattr(kRootIno).nlink == 3);
    CHECK(v->orphans() == std::vector<Ino>{a});
    v->free_inode(a);
  }
  SECTION("what rename refuses") {
    Ino c = v->mkdir(b, "c", 0700, 0, 0);
    CHECK(error_of([&] { v->rename(kRootIno, "b", b, "x"); }) == EINVAL);
    CHECK(error_of([&] { v->rename(kRootIno, "b", c, "x"); }) == EINVAL);
    CHECK(error_of([&] { v->rename(kRootIno, "a", kRootIno, "b"); }) == ENOTEMPTY);
    CHECK(error_of([&] { v->rename(b, "c", kRootIno, "b"); }) == ENOTEMPTY);
    CHECK(error_of([&] { v->rename(kRootIno, "a", b, "h"); }) == ENOTDIR);
    CHECK(error_of([&] { v->rename(b, "h", kRootIno, "a"); }) == EISDIR);
  }
}

TEST_CASE("attributes can be set and last") {
  Volume v;
  Ino f = v.file("f");
  v->set_mode(f, S_IFDIR | 0421, 10, 20);  // the type can't be changed
  v->set_times(f, 111, INT64_MIN);
  int64_t mtime = v->getattr(f).mtime_ns;
  v.reopen();
  InodeAttr a = v->getattr(f);
  CHECK(a.mode == (S_IFREG | 0421));
  CHECK(a.uid == 10);
  CHECK(a.gid == 20);
  CHECK(a.atime_ns == 111);
  CHECK(a.mtime_ns == mtime);
  v->set_times(f, INT64_MIN, 222);
  CHECK(v->getattr(f).mtime_ns == 222);
  CHECK(v->getattr(f).ctime_ns > 222);
}

TEST_CASE("a directory of 100000 entries: all found, listed once each, while others come and go") {
  constexpr int kEntries = 100'000;
  Volume v(65536, 256 << 20);
  std::vector<Ino> inos;
  for (int i = 0; i < kEntries; ++i) inos.push_back(v.file("file-" + std::to_string(i)));
  CHECK(v->getattr(kRootIno).size == kEntries);
  for (int i = 0; i < kEntries; i += 97)
    REQUIRE(v->lookup(kRootIno, "file-" + std::to_string(i)) == inos[static_cast<size_t>(i)]);
  v.reopen();
  // While the listing goes on, every third file is removed and new ones come. Whatever was there all the time
  // must be listed exactly once.
  std::set<std::string> seen;
  uint64_t cookie = 0;
  int removed = 0, added = 0;
  for (;;) {
    auto part = v->list(kRootIno, cookie, 1000);
    if (part.empty()) break;
    for (const DirEntry& e : part) {
      REQUIRE(e.cookie > cookie);
      REQUIRE(e.cookie <= INT64_MAX);
      cookie = e.cookie;
      REQUIRE(seen.insert(e.name).second);
      REQUIRE(v->lookup(kRootIno, e.name) == e.ino);
      REQUIRE(S_ISREG(e.mode));
    }
    for (int k = 0; k < 500 && removed < kEntries; ++k, removed += 3) {
      Unlinked u = v->unlink(kRootIno, "file-" + std::to_string(removed));
      v->free_inode(u.ino);
    }
    for (int k = 0; k < 50; ++k) v.file("new-" + std::to_string(added++));
  }
  for (int i = 0; i < kEntries; ++i)
    if (i % 3 != 0) REQUIRE(seen.contains("file-" + std::to_string(i)));
}

TEST_CASE("names with equal hashes live side by side, 256 of them") {
  TempDir d;
  format_pool(d / "meta", {1000, 1, false}, 0, 1);  // one bit of hash: two values, of which 0 counts as 1
  auto s = Store::open(d / "meta");
  std::set<std::string> names;
  for (int i = 0; i < 256; ++i) {
    names.insert("n" + std::to_string(i));
    s->create(kRootIno, "n" + std::to_string(i), 0600, 0, 0);
  }
  CHECK(error_of([&] { s->create(kRootIno, "one too many", 0600, 0, 0); }) == ENOSPC);
  for (const auto& n : names) CHECK(s->lookup(kRootIno, n) != Ino{});
  auto half = s->list(kRootIno, 0, 128);
  for (const DirEntry& e : half) {
    s->unlink(kRootIno, e.name);
    names.erase(e.name);
  }
  auto rest = s->list(kRootIno, half.back().cookie, 1000);
  CHECK(rest.size() == 128);
  for (const DirEntry& e : rest) CHECK(names.contains(e.name));
  s->create(kRootIno, "room again", 0600, 0, 0);
  CHECK(s->lookup(kRootIno, "room again") != Ino{});
  CHECK(s->check().empty());
}

}  // namespace
}  // namespace pmfs::meta::test
