// Links, attributes and extended attributes through libpmfs, C++ and C.
#include <sys/stat.h>
#include <sys/xattr.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>

#include "pmfs/pmfs.h"
#include "pmfs/pmfs.hpp"
#include "tests/lib/real_manager.h"
#include "tests/support/error_of.h"

using namespace pmfs;
using test::error_of;

namespace {

std::vector<std::byte> bytes(size_t n) {
  std::vector<std::byte> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = static_cast<std::byte>(i * 13 & 255);
  return v;
}

struct C {  // the C API's volume
  pmfs_volume* v;
  explicit C(const std::string& path) : v(pmfs_connect(path.c_str())) { REQUIRE(v != nullptr); }
  ~C() { pmfs_disconnect(v); }
};

int err(long rc) { return rc == -1 ? errno : 0; }

}  // namespace

TEST_CASE("links through the C++ API") {
  test::RealManager m;
  Volume v(m.path());
  v.mkdir("/d");
  v.open("/d/f", O_RDWR | O_CREAT, 0640);
  v.link("/d/f", "/g");
  CHECK(v.stat("/g").nlink == 2);
  CHECK(v.stat("/g").ino == v.stat("/d/f").ino);
  v.symlink("d/f", "/l");
  CHECK(v.readlink("/l") == "d/f");
  CHECK(v.stat("/l").ino == v.stat("/g").ino);
  CHECK(S_ISLNK(v.stat("/l", Follow::kNo).mode));
  v.link("/l", "/h", Follow::kYes);
  CHECK(v.stat("/h", Follow::kNo).nlink == 3);
  CHECK(error_of([&] { v.rename("/g", "/h", 4); }) == EINVAL);
  CHECK(error_of([&] { v.rename("/d", "/l", RENAME_NOREPLACE); }) == EEXIST);
  v.rename("/d", "/l", RENAME_EXCHANGE);
  CHECK(S_ISDIR(v.stat("/l", Follow::kNo).mode));
  CHECK(v.readlink("/d") == "d/f");
  CHECK(error_of([&] { v.stat("/d"); }) == ELOOP);  // it leads through itself now
  CHECK(error_of([&] { v.mknod("/fifo", S_IFIFO | 0600); }) == EPERM);
  v.mknod("/plain", S_IFREG | 0600);
  CHECK(v.stat("/plain").mode == (S_IFREG | 0600));
  for (const Dirent& e : v.list("/"))
    if (e.name == "d") CHECK(S_ISLNK(e.mode));
}

TEST_CASE("attributes through the C++ API, by path and by file") {
  test::RealManager m;
  Volume v(m.path());
  File f = v.open("/f", O_RDWR | O_CREAT, 0640);
  v.symlink("f", "/l");
  AttrChange c;
  c.mode = 0751;
  c.uid = 5;
  c.gid = 6;
  c.atime_ns = 1'000'000'000'000'000'001;
  c.mtime_ns = -1;
  v.set_attr("/l", c);
  Stat s = f.stat();
  CHECK(s.mode == (S_IFREG | 0751));
  CHECK(s.uid == 5);
  CHECK(s.gid == 6);
  CHECK(s.atime_ns == 1'000'000'000'000'000'001);
  CHECK(s.mtime_ns == -1);
  AttrChange now;
  now.mtime_ns = AttrChange::kNow;
  f.set_attr(now);
  CHECK(f.stat().mtime_ns > 1'600'000'000'000'000'000);
  AttrChange link;
  link.uid = 9;
  v.set_attr("/l", link, Follow::kNo);
  CHECK(v.stat("/l", Follow::kNo).uid == 9);
  CHECK(f.stat().uid == 5);
}

TEST_CASE("extended attributes through the C++ API") {
  test::RealManager m;
  Volume v(m.path());
  File f = v.open("/f", O_RDWR | O_CREAT);
  v.symlink("f", "/l");
  f.set_xattr("user.a", bytes(65536));
  CHECK(v.get_xattr("/l", "user.a") == bytes(65536));
  v.set_xattr("/f", "trusted.empty", {});
  CHECK(f.get_xattr("trusted.empty").empty());
  CHECK(f.list_xattrs().size() == 2);
  CHECK(error_of([&] { f.set_xattr("user.a", bytes(1), XATTR_CREATE); }) == EEXIST);
  CHECK(error_of([&] { f.set_xattr("user.b", bytes(1), XATTR_REPLACE); }) == ENODATA);
  CHECK(error_of([&] { f.set_xattr("user.b", bytes(65537)); }) == E2BIG);
  CHECK(error_of([&] { v.set_xattr("/l", "user.a", bytes(1), 0, Follow::kNo); }) == EPERM);
  v.set_xattr("/l", "trusted.l", bytes(3), 0, Follow::kNo);
  CHECK(v.list_xattrs("/l", Follow::kNo) == std::vector<std::string>{"trusted.l"});
  v.remove_xattr("/l", "trusted.l", Follow::kNo);
  CHECK(v.list_xattrs("/l", Follow::kNo).empty());
  f.remove_xattr("user.a");
  CHECK(error_of([&] { v.get_xattr("/f", "user.a"); }) == ENODATA);
}

TEST_CASE("the C API has the errno of the system calls") {
  test::RealManager m;
  C c(m.path());
  int fd = pmfs_open(c.v, "/f", O_RDWR | O_CREAT, 0644);
  REQUIRE(fd > 0);
  REQUIRE(pmfs_symlink(c.v, "f", "/l") == 0);
  char buf[8] = {};
  CHECK(pmfs_readlink(c.v, "/l", buf, sizeof buf) == 1);
  CHECK(buf[0] == 'f');
  CHECK(err(pmfs_readlink(c.v, "/f", buf, sizeof buf)) == EINVAL);
  struct stat st;
  CHECK(pmfs_lstat(c.v, "/l", &st) == 0);
  CHECK(S_ISLNK(st.st_mode));
  CHECK(pmfs_link(c.v, "/f", "/g") == 0);
  CHECK(err(pmfs_link(c.v, "/f", "/g")) == EEXIST);
  CHECK(err(pmfs_rename2(c.v, "/f", "/g", RENAME_NOREPLACE)) == EEXIST);
  CHECK(pmfs_rename2(c.v, "/l", "/g", RENAME_EXCHANGE) == 0);
  CHECK(err(pmfs_mknod(c.v, "/s", S_IFSOCK)) == EPERM);

  CHECK(pmfs_fchmod(fd, 0600) == 0);
  CHECK(pmfs_chmod(c.v, "/f", 0604) == 0);
  CHECK(pmfs_fchown(fd, 3, static_cast<gid_t>(-1)) == 0);
  CHECK(pmfs_chown(c.v, "/f", static_cast<uid_t>(-1), 4) == 0);
  CHECK(pmfs_lchown(c.v, "/g", 77, 78) == 0);  // the symbolic link by now
  timespec t[2] = {{5, 6}, {7, UTIME_OMIT}};
  CHECK(pmfs_futimens(fd, t) == 0);
  t[0].tv_nsec = UTIME_OMIT;
  t[1] = {-3, 999'999'999};
  CHECK(pmfs_utimens(c.v, "/f", t) == 0);
  t[1].tv_nsec = 1'000'000'000;
  CHECK(err(pmfs_utimens(c.v, "/f", t)) == EINVAL);
  REQUIRE(pmfs_fstat(fd, &st) == 0);
  CHECK(st.st_mode == (S_IFREG | 0604));
  CHECK(st.st_uid == 3);
  CHECK(st.st_gid == 4);
  CHECK(st.st_nlink == 2);
  CHECK(st.st_atim.tv_sec == 5);
  CHECK(st.st_atim.tv_nsec == 6);
  CHECK(st.st_mtim.tv_sec == -3);
  CHECK(st.st_mtim.tv_nsec == 999'999'999);
  CHECK(pmfs_lutimens(c.v, "/g", nullptr) == 0);

  CHECK(pmfs_setxattr(c.v, "/f", "user.a", "value", 5, 0) == 0);
  CHECK(pmfs_fgetxattr(fd, "user.a", nullptr, 0) == 5);
  CHECK(pmfs_fgetxattr(fd, "user.a", buf, sizeof buf) == 5);
  CHECK(std::memcmp(buf, "value", 5) == 0);
  CHECK(err(pmfs_getxattr(c.v, "/f", "user.a", buf, 4)) == ERANGE);
  CHECK(err(pmfs_getxattr(c.v, "/f", "user.b", buf, 4)) == ENODATA);
  CHECK(err(pmfs_getxattr(c.v, "/f", "nobody.b", buf, 4)) == EOPNOTSUPP);
  CHECK(pmfs_listxattr(c.v, "/f", nullptr, 0) == 7);
  CHECK(pmfs_flistxattr(fd, buf, sizeof buf) == 7);
  CHECK(std::memcmp(buf, "user.a", 7) == 0);
  CHECK(err(pmfs_flistxattr(fd, buf, 6)) == ERANGE);
  CHECK(pmfs_lsetxattr(c.v, "/g", "trusted.l", "x", 1, XATTR_CREATE) == 0);
  CHECK(pmfs_lgetxattr(c.v, "/g", "trusted.l", buf, 1) == 1);
  CHECK(pmfs_llistxattr(c.v, "/g", nullptr, 0) == 10);
  CHECK(pmfs_lremovexattr(c.v, "/g", "trusted.l") == 0);
  CHECK(pmfs_fremovexattr(fd, "user.a") == 0);
  CHECK(err(pmfs_removexattr(c.v, "/f", "user.a")) == ENODATA);
  CHECK(err(pmfs_fsetxattr(fd, nullptr, "x", 1, 0)) == EFAULT);
  CHECK(pmfs_close(fd) == 0);
}
