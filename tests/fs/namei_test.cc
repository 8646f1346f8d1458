// Paths: symbolic links on the way, the end of a path, links, special files, and files that change under a walk.
#include <catch2/catch.hpp>

#include <atomic>
#include <thread>

#include <fcntl.h>
#include <sys/stat.h>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/fs/inode_ref.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_dir.h"

using namespace pmfs;
using test::error_of;

namespace {

struct Fixture {
  test::TempDir dir;
  std::unique_ptr<MountedVolume> v;
  Fixture() {
    format_volume(dir / "vol", {8192, true, false});
    v = std::make_unique<MountedVolume>(dir / "vol", VolumeOptions{});
  }
  ~Fixture() {
    auto findings = v->store().check();
    for (auto& f : findings) UNSCOPED_INFO(f);
    CHECK(findings.empty());
  }
  Ino make(const char* p, int flags = O_RDWR | O_CREAT) { return InodeRef{*v, v->open(p, flags, 0644, 0, 0)}->ino; }
};

}  // namespace

TEST_CASE("symbolic links on the way are followed: relative, absolute, upwards, chained") {
  Fixture f;
  f.v->mkdir("/a", 0755, 0, 0);
  f.v->mkdir("/a/b", 0755, 0, 0);
  Ino x = f.make("/a/b/x");
  f.v->symlink("b", "/a/rel");
  f.v->symlink("/a/b", "/abs");
  f.v->symlink("../a/rel/../b", "/a/up");
  f.v->symlink("abs", "/chain");
  f.v->symlink("/a/b/x", "/file");
  f.v->symlink("nowhere", "/dangling");
  for (const char* p : {"/a/rel/x", "/abs/x", "/a/up/x", "/chain/x", "/chain/../b/x", "/file"}) {
    CAPTURE(p);
    CHECK(f.v->lookup(p) == x);
    CHECK(f.make(p) == x);  // O_CREAT finds it
    CHECK(f.make(p, O_RDONLY) == x);
  }
  CHECK(S_ISLNK(f.v->stat("/file", FollowLast::kNo).mode));
  CHECK(S_ISREG(f.v->stat("/file").mode));
  CHECK(f.v->readlink("/a/up") == "../a/rel/../b");
  CHECK(error_of([&] { f.v->readlink("/a"); }) == EINVAL);
  CHECK(error_of([&] { f.v->stat("/dangling"); }) == ENOENT);
  CHECK(error_of([&] { f.v->stat("/file/"); }) == ENOTDIR);
  CHECK(error_of([&] { f.v->stat("/file/x"); }) == ENOTDIR);
  CHECK(S_ISDIR(f.v->stat("/abs/", FollowLast::kNo).mode));
  CHECK(error_of([&] { f.v->open("/file", O_RDONLY | O_NOFOLLOW, 0, 0, 0); }) == ELOOP);
  CHECK(error_of([&] { f.v->open("/abs", O_RDONLY, 0, 0, 0); }) == EISDIR);
  CHECK(f.v->list("/abs", 0, 10).size() == 1);
}

TEST_CASE("40 links are followed, 41 are ELOOP, and so is a circle") {
  Fixture f;
  Ino x = f.make("/x");
  std::string last = "x";
  for (unsigned i = 1; i <= PathWalk::kMaxLinks + 1; ++i) {
    std::string name = "/l" + std::to_string(i);
    f.v->symlink(last, name);
    last = name;
  }
  CHECK(f.v->lookup("/l40") == x);
  CHECK(error_of([&] { f.v->lookup("/l41"); }) == ELOOP);
  CHECK(f.v->lookup("/l41", FollowLast::kNo) != x);
  f.v->symlink("b", "/a");
  f.v->symlink("a", "/b");
  CHECK(error_of([&] { f.v->lookup("/a"); }) == ELOOP);
  CHECK(error_of([&] { f.v->lookup("/a/x"); }) == ELOOP);
  CHECK(error_of([&] { f.make("/a"); }) == ELOOP);
}

TEST_CASE("O_CREAT goes through a dangling link, O_EXCL and O_NOFOLLOW do not") {
  Fixture f;
  f.v->mkdir("/d", 0755, 0, 0);
  f.v->symlink("d/target", "/l");
  CHECK(error_of([&] { f.make("/l", O_RDWR | O_CREAT | O_EXCL); }) == EEXIST);
  CHECK(error_of([&] { f.make("/l", O_RDWR | O_CREAT | O_NOFOLLOW); }) == ELOOP);
  CHECK(error_of([&] { f.v->lookup("/d/target"); }) == ENOENT);
  Ino t = f.make("/l");
  CHECK(f.v->lookup("/d/target") == t);
  CHECK(error_of([&] { f.make("/new/"); }) == EISDIR);
  CHECK(error_of([&] { f.make("/d"); }) == EISDIR);
}

TEST_CASE("unlink, rename, rmdir and link mean the symbolic link itself") {
  Fixture f;
  Ino x = f.make("/x");
  f.v->mkdir("/d", 0755, 0, 0);
  f.v->symlink("x", "/l");
  f.v->symlink("d", "/ld");
  CHECK(error_of([&] { f.v->rmdir("/ld"); }) == ENOTDIR);
  CHECK(error_of([&] { f.v->unlink("/x/"); }) == ENOTDIR);
  CHECK(error_of([&] { f.v->unlink("/d/"); }) == EISDIR);
  CHECK(error_of([&] { f.v->rename("/x", "/y/"); }) == ENOTDIR);
  f.v->link("/l", "/l2");
  CHECK(S_ISLNK(f.v->stat("/l2", FollowLast::kNo).mode));
  CHECK(f.v->stat("/l2", FollowLast::kNo).nlink == 2);
  f.v->link("/l", "/x2", FollowLast::kYes);
  CHECK(f.v->lookup("/x2", FollowLast::kNo) == x);
  f.v->rename("/l", "/m");
  f.v->unlink("/m");
  f.v->unlink("/l2");
  CHECK(f.v->lookup("/x") == x);
  f.v->rename("/d/", "/e/");
  f.v->rmdir("/e/");
  CHECK(f.v->store().orphans().empty());
}

TEST_CASE("a file stays while one name or one user of it is left") {
  Fixture f;
  InodeRef r{*f.v, f.v->open("/x", O_RDWR | O_CREAT, 0644, 0, 0)};
  std::vector<std::byte> data(10000, std::byte{7}), back(10000);
  f.v->write(*r, data, 0);
  f.v->link("/x", "/y");
  f.v->unlink("/x");
  CHECK(f.v->stat("/y").nlink == 1);
  f.v->unlink("/y");
  CHECK(f.v->read(*r, back, 0) == back.size());
  CHECK(back == data);
  CHECK(f.v->store().space().blocks_used == 3);
  r = {};
  CHECK(f.v->store().space().blocks_used == 0);
  CHECK(f.v->store().space().inodes_used == 1);
}

TEST_CASE("special files are refused, each by its name") {
  Fixture f;
  for (auto [mode, word] : {std::pair<uint32_t, const char*>{S_IFIFO, "FIFO"}, {S_IFSOCK, "socket"},
                            {S_IFCHR, "character device"}, {S_IFBLK, "block device"}}) {
    try {
      f.v->mknod("/n", mode | 0644, {});
      FAIL("made");
    } catch (const Error& e) {
      CHECK(e.err() == EPERM);
      CHECK(e.message().find(word) != std::string::npos);
    }
  }
  f.v->mknod("/n", S_IFREG | 0600, {});
  CHECK(f.v->stat("/n").mode == (S_IFREG | 0600));
}

TEST_CASE("a walk that races with renames and removals finds the right file or none") {
  Fixture f;
  f.v->mkdir("/d", 0755, 0, 0);
  Ino keep = f.make("/d/keep");
  std::atomic<bool> stop{false};
  std::thread churn([&] {
    for (int i = 0; !stop; ++i) {
      f.v->rename("/d", "/e");
      f.v->rename("/e", "/d");
      f.make("/tmp");
      f.v->unlink("/tmp");
    }
  });
  int found = 0, opened = 0;
  for (int i = 0; i < 20000 && (found < 200 || opened < 50 || i < 2000); ++i) {
    try {
      MountedVolume::Found x = f.v->find("/d/keep", FollowLast::kYes);
      REQUIRE(x.ino == keep);
      f.v->put(*x.file);
      ++found;
    } catch (const Error& e) {
      REQUIRE(e.err() == ENOENT);
    }
    try {
      InodeRef t{*f.v, f.v->open("/tmp", O_RDWR | O_CREAT, 0644, 0, 0)};
      REQUIRE(t->ino != keep);
      ++opened;
    } catch (const Error& e) {
      REQUIRE(e.err() == EBUSY);
    }
  }
  stop = true;
  churn.join();
  CHECK(found > 0);
  CHECK(opened > 0);
}

TEST_CASE("a file that nobody has is freed with its name") {
  Fixture f;
  const Ino x = f.make("/x");
  f.v->unlink("/x");
  CHECK(f.v->store().orphans().empty());
  CHECK(error_of([&] { f.v->store().getattr(x); }) == ENOENT);
  CHECK(f.make("/y") == x);
  f.v->rename("/y", "/z");
  const Ino other = f.make("/other");
  f.v->rename("/other", "/z");
  CHECK(error_of([&] { f.v->store().getattr(x); }) == ENOENT);
  CHECK(f.v->lookup("/z") == other);
  f.v->mkdir("/d", 0755, 0, 0);
  f.v->symlink("z", "/l");
  const Ino d = f.v->lookup("/d"), l = f.v->lookup("/l", FollowLast::kNo);
  f.v->pin(d);
  f.v->rmdir("/d");
  f.v->unlink("/l");
  CHECK(f.v->store().orphans() == std::vector{d});  // the pinned one
  CHECK(error_of([&] { f.v->store().getattr(l); }) == ENOENT);
  f.v->unpin(d);
  CHECK(f.v->store().orphans().empty());
}

#ifdef PMFS_PAUSE_POINTS
TEST_CASE("a file that somebody is about to have is not freed under his hands") {
  Fixture f;
  const Ino x = f.make("/x");
  pause::Gate gate("inode:making");
  int err = 0;
  std::thread opener([&] { err = error_of([&] { f.v->open("/x", O_RDWR, 0, 0, 0); }); });
  REQUIRE(gate.wait_arrived());
  std::thread unlinker([&] { f.v->unlink("/x"); });
  while (f.v->store().find(kRootIno, "x")) std::this_thread::yield();
  CHECK(f.v->store().orphans() == std::vector{x});  // and not free, perhaps another file by now
  gate.release();
  unlinker.join();
  opener.join();
  CHECK(err == ENOENT);
  CHECK(f.v->store().orphans().empty());
  CHECK(error_of([&] { f.v->store().getattr(x); }) == ENOENT);
}
#endif
