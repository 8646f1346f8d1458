// Collapse, insert, seek and copy through libpmfs, C++ and C.
#include <linux/falloc.h>
#include <unistd.h>

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

std::vector<std::byte> filled(size_t n, int value) { return std::vector<std::byte>(n, static_cast<std::byte>(value)); }

int err(long rc) { return rc == -1 ? errno : 0; }

}  // namespace

TEST_CASE("collapse, insert, seek and copy through the C++ API, with the file mapped") {
  test::RealManager m;
  Volume v(m.path());
  File f = v.open("/f", O_RDWR | O_CREAT), g = v.open("/g", O_RDWR | O_CREAT);
  for (int k = 0; k < 8; ++k) f.append(filled(4096, k + 1));
  Mapping map = f.map(0, 8 * 4096);
  map.bytes()[5 * 4096] = std::byte{99};  // has a PTE
  f.collapse(4096, 2 * 4096);
  CHECK(f.stat().size == 6 * 4096);
  CHECK(map.bytes()[4096] == std::byte{4});
  CHECK(map.bytes()[3 * 4096] == std::byte{99});
  f.insert(0, 4096);
  CHECK(map.bytes()[0] == std::byte{0});
  CHECK(map.bytes()[4096] == std::byte{1});
  CHECK(f.seek_data(0) == 4096);
  CHECK(f.seek_hole(4096) == 7 * 4096);
  CHECK(error_of([&] { f.seek_data(7 * 4096); }) == ENXIO);
  CHECK(error_of([&] { f.collapse(0, 100); }) == EINVAL);
  CHECK(f.copy_to(0, g, 10, 1 << 20) == 7 * 4096);
  CHECK(g.stat().size == 7 * 4096 + 10);
  std::byte b;
  CHECK(g.read({&b, 1}, 4096 + 10) == 1);
  CHECK(b == std::byte{1});
  File r = v.open("/g", O_RDONLY);
  CHECK(error_of([&] { f.copy_to(0, r, 0, 1); }) == EBADF);
  Volume other(m.path());
  File o = other.open("/g", O_RDWR);
  CHECK(error_of([&] { f.copy_to(0, o, 0, 1); }) == EXDEV);
}

TEST_CASE("the C API of ranges") {
  test::RealManager m;
  pmfs_volume* v = pmfs_connect(m.path().c_str());
  REQUIRE(v != nullptr);
  int fd = pmfs_open(v, "/f", O_RDWR | O_CREAT, 0644);
  REQUIRE(fd > 0);
  auto data = filled(4 * 4096, 7);
  CHECK(pmfs_pwrite(fd, data.data(), data.size(), 8 * 4096) == 4 * 4096);
  CHECK(pmfs_seek(fd, 0, SEEK_DATA) == 8 * 4096);
  CHECK(pmfs_seek(fd, 9 * 4096, SEEK_HOLE) == 12 * 4096);
  CHECK(err(pmfs_seek(fd, 0, SEEK_SET)) == EINVAL);
  CHECK(err(pmfs_seek(fd, 12 * 4096, SEEK_DATA)) == ENXIO);
  CHECK(pmfs_fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096) == 0);
  CHECK(pmfs_fallocate(fd, FALLOC_FL_INSERT_RANGE, 4096, 2 * 4096) == 0);
  CHECK(pmfs_seek(fd, 0, SEEK_DATA) == 9 * 4096);
  CHECK(err(pmfs_fallocate(fd, FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096)) == EOPNOTSUPP);
  CHECK(pmfs_copy_file_range(fd, 9 * 4096, fd, 0, 100) == 100);
  char c = 0;
  CHECK(pmfs_pread(fd, &c, 1, 99) == 1);
  CHECK(c == 7);
  CHECK(err(pmfs_copy_file_range(fd, 0, fd, 50, 100)) == EINVAL);
  CHECK(pmfs_ftruncate(fd, INT64_MAX) == 0);  // 8 EiB - 1
  CHECK(pmfs_pwrite(fd, "x", 1, INT64_MAX - 1) == 1);
  CHECK(err(pmfs_pwrite(fd, "xy", 2, INT64_MAX - 1)) == EFBIG);
  CHECK(pmfs_seek(fd, int64_t{1} << 40, SEEK_DATA) == (INT64_MAX & ~int64_t{4095}));
  struct stat st;
  CHECK(pmfs_fstat(fd, &st) == 0);
  CHECK(st.st_size == INT64_MAX);
  CHECK(pmfs_close(fd) == 0);
  pmfs_disconnect(v);
}
