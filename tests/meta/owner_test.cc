// Modes, owners and times, and who may change them; set-group-ID and sticky directories; rename's flags; link counts.
#include <sys/stat.h>

#include "tests/meta/meta_fixture.h"
#include "tests/meta/pool_image.h"

namespace pmfs::meta::test {
namespace {

const Credentials kRoot{};
const Credentials kAnn{100, 10, {20}};
const Credentials kBob{200, 10};
const Credentials kEve{300, 30};

AttrChange mode(uint32_t m) { return {m, {}, {}, {}, {}}; }
AttrChange owner(std::optional<uint32_t> uid, std::optional<uint32_t> gid) { return {{}, uid, gid, {}, {}}; }
AttrChange times(std::optional<int64_t> a, std::optional<int64_t> m) { return {{}, {}, {}, a, m}; }

TEST_CASE("only the owner and root may chmod; a mode loses set-group-ID outside of the group") {
  Volume v;
  Ino f = v->create(kRootIno, "f", 0644, kAnn);
  v->set_attr(f, mode(S_IFDIR | 02755), kAnn);
  CHECK(v->getattr(f).mode == (S_IFREG | 02755));
  CHECK(error_of([&] { v->set_attr(f, mode(0777), kBob); }) == EPERM);
  CHECK(v->getattr(f).mode == (S_IFREG | 02755));
  v->set_attr(f, owner({}, 999), kRoot);
  v->set_attr(f, mode(02755), kAnn);  // not in group 999
  CHECK(v->getattr(f).mode == (S_IFREG | 0755));
  v->set_attr(f, mode(02755), kRoot);
  CHECK(v->getattr(f).mode == (S_IFREG | 02755));
}

TEST_CASE("chown: root gives away, the owner changes the group to one of theirs; privileged bits go") {
  Volume v;
  Ino f = v->create(kRootIno, "f", 0755, kAnn);
  CHECK(error_of([&] { v->set_attr(f, owner(200, {}), kAnn); }) == EPERM);
  CHECK(error_of([&] { v->set_attr(f, owner({}, 30), kAnn); }) == EPERM);
  CHECK(error_of([&] { v->set_attr(f, owner({}, 10), kBob); }) == EPERM);
  v->set_attr(f, mode(06755), kAnn);
  v->set_attr(f, owner({}, 20), kAnn);  // a supplementary group
  InodeAttr a = v->getattr(f);
  CHECK(a.gid == 20);
  CHECK(a.uid == 100);
  CHECK(a.mode == (S_IFREG | 0755));
  v->set_attr(f, mode(06745), kRoot);  // set-group-ID without group execute is not a privilege
  v->set_attr(f, owner(200, 30), kRoot);
  a = v->getattr(f);
  CHECK(a.uid == 200);
  CHECK(a.gid == 30);
  CHECK(a.mode == (S_IFREG | 02745));
}

TEST_CASE("times have nanoseconds, last, and belong to the owner") {
  Volume v;
  Ino f = v->create(kRootIno, "f", 0620, kAnn);
  const int64_t t = 1'700'000'000'123'456'789, before = v->getattr(f).ctime_ns;
  v->set_attr(f, times(t, -5), kAnn);
  v.reopen();
  InodeAttr a = v->getattr(f);
  CHECK(a.atime_ns == t);
  CHECK(a.mtime_ns == -5);
  CHECK(a.ctime_ns > before);
  CHECK(error_of([&] { v->set_attr(f, times(1, 1), kBob); }) == EPERM);
  v->set_attr(f, times(AttrChange::kNow, AttrChange::kNow), kBob);  // in the group, which may write
  CHECK(v->getattr(f).mtime_ns > before);
  CHECK(error_of([&] { v->set_attr(f, times(AttrChange::kNow, {}), kEve); }) == EPERM);
}

TEST_CASE("a set-group-ID directory gives its group, and to directories the bit") {
  Volume v;
  Ino d = v->mkdir(kRootIno, "d", 02777, kRoot);
  v->set_attr(d, owner({}, 555), kRoot);
  v->set_attr(d, mode(02777), kRoot);
  InodeAttr f = v->getattr(v->create(d, "f", 02755, kAnn));
  CHECK(f.gid == 555);
  CHECK(f.uid == 100);
  CHECK(f.mode == (S_IFREG | 0755));  // not in group 555: no set-group-ID program of it
  CHECK(v->getattr(v->create(d, "g", 02745, kAnn)).mode == (S_IFREG | 02745));
  CHECK(v->getattr(v->create(d, "r", 02755, kRoot)).mode == (S_IFREG | 02755));
  InodeAttr s = v->getattr(v->mkdir(d, "s", 0755, kAnn));
  CHECK(s.gid == 555);
  CHECK(s.mode == (S_IFDIR | 02755));
  CHECK(v->getattr(v->create(kRootIno, "f", 02755, kAnn)).gid == 10);  // the control: no such directory
}

TEST_CASE("in a sticky directory names are taken away by their owners only") {
  Volume v;
  Ino d = v->mkdir(kRootIno, "d", 01777, kRoot), open = v->mkdir(kRootIno, "open", 0777, kRoot);
  v->create(d, "anns", 0666, kAnn);
  v->create(d, "bobs", 0666, kBob);
  v->mkdir(d, "anns.d", 0777, kAnn);
  v->create(open, "anns", 0666, kAnn);
  CHECK(error_of([&] { v->unlink(d, "anns", kBob); }) == EPERM);
  CHECK(error_of([&] { v->rmdir(d, "anns.d", kBob); }) == EPERM);
  CHECK(error_of([&] { v->rename(d, "anns", open, "x", 0, kBob); }) == EPERM);
  CHECK(error_of([&] { v->rename(d, "bobs", d, "anns", 0, kBob); }) == EPERM);  // would replace Ann's
  CHECK(error_of([&] { v->rename(d, "bobs", d, "anns", kRenameExchange, kBob); }) == EPERM);
  v->rename(d, "bobs", d, "bobs2", 0, kBob);
  v->unlink(open, "anns", kBob);  // the control: not sticky
  v->unlink(d, "anns", kAnn);
  v->rmdir(d, "anns.d", kAnn);
  v->set_attr(d, owner(kEve.uid, {}), kRoot);
  v->unlink(d, "bobs2", kEve);  // the directory's owner
}

TEST_CASE("rename with NOREPLACE and EXCHANGE") {
  Volume v;
  Ino a = v->mkdir(kRootIno, "a", 0700, kRoot), b = v->mkdir(kRootIno, "b", 0700, kRoot);
  Ino f = v->create(a, "f", 0600, kRoot), g = v->create(b, "g", 0600, kRoot);
  Ino s = v->mkdir(b, "s", 0700, kRoot);
  Ino inner = v->create(s, "inner", 0600, kRoot);
  CHECK(error_of([&] { v->rename(a, "f", b, "g", kRenameNoReplace, kRoot); }) == EEXIST);
  CHECK(v->lookup(a, "f") == f);
  CHECK_FALSE(v->rename(a, "f", b, "h", kRenameNoReplace, kRoot));
  CHECK_FALSE(v->rename(b, "h", a, "f", 0, kRoot));
  CHECK(error_of([&] { v->rename(a, "f", b, "none", kRenameExchange, kRoot); }) == ENOENT);
  for (uint32_t flags : {3u, 4u, 8u}) CHECK(error_of([&] { v->rename(a, "f", b, "x", flags, kRoot); }) == EINVAL);

  CHECK_FALSE(v->rename(a, "f", b, "g", kRenameExchange, kRoot));
  CHECK(v->lookup(a, "f") == g);
  CHECK(v->lookup(b, "g") == f);
  // A file and a directory that is not empty change places; the parents' counts follow the directory.
  CHECK_FALSE(v->rename(a, "f", b, "s", kRenameExchange, kRoot));
  CHECK(v->lookup(a, "f") == s);
  CHECK(v->lookup(s, "inner") == inner);
  CHECK(v->parent(s) == a);
  CHECK(v->getattr(a).nlink == 3);
  CHECK(v->getattr(b).nlink == 2);
  CHECK_FALSE(v->rename(b, "g", a, "f", kRenameExchange, kRoot));  // and back, from the other side
  CHECK(v->parent(s) == b);
  CHECK(v->getattr(a).nlink == 2);
  CHECK(v->orphans().empty());
  // Neither may get below itself.
  CHECK(error_of([&] { v->rename(kRootIno, "b", b, "s", kRenameExchange, kRoot); }) == EINVAL);
  CHECK(error_of([&] { v->rename(b, "s", kRootIno, "b", kRenameExchange, kRoot); }) == EINVAL);
  v.reopen();
  CHECK(v->lookup(b, "g") == s);
}

TEST_CASE("the largest link count is EMLINK, for names of a file and for subdirectories") {
  Volume v;
  Ino f = v.file("f"), d = v->mkdir(kRootIno, "d", 0700, kRoot), e = v->mkdir(kRootIno, "e", 0700, kRoot);
  auto counts = [&](uint32_t file, uint32_t dir) {
    v.close();
    {
      PoolImage image(v.path());
      image.inode(f).nlink = file;
      image.inode(d).nlink = dir;
      image.seal_all();
    }
    v.open();
  };
  counts(kMaxLinks - 1, kMaxLinks - 1);
  v->link(f, kRootIno, "g", kRoot);
  v->mkdir(d, "s", 0700, kRoot);
  CHECK(error_of([&] { v->link(f, kRootIno, "h", kRoot); }) == EMLINK);
  CHECK(error_of([&] { v->mkdir(d, "t", 0700, kRoot); }) == EMLINK);
  CHECK(error_of([&] { v->rename(kRootIno, "e", d, "e", 0, kRoot); }) == EMLINK);
  v->create(d, "file", 0600, kRoot);
  v->create(kRootIno, "file", 0600, kRoot);
  CHECK(error_of([&] { v->rename(kRootIno, "e", d, "file", kRenameExchange, kRoot); }) == EMLINK);
  CHECK(error_of([&] { v->rename(d, "file", kRootIno, "e", kRenameExchange, kRoot); }) == EMLINK);
  CHECK(v->parent(e) == kRootIno);
  counts(2, 3);
}

}  // namespace
}  // namespace pmfs::meta::test
