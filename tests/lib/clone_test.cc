// Reflinks and quotas through libpmfs.
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cerrno>

#include "pmfs/pmfs.h"
#include "pmfs/pmfs.hpp"
#include "tests/lib/real_manager.h"
#include "tests/support/error_of.h"

using namespace pmfs;
using test::error_of;

namespace {

std::vector<std::byte> filled(size_t n, int value) { return std::vector<std::byte>(n, static_cast<std::byte>(value)); }

}  // namespace

TEST_CASE("a clone shares blocks until one side is written to, also through a mapping") {
  test::RealManager m;
  Volume v(m.path());
  File f = v.open("/f", O_RDWR | O_CREAT), g = v.open("/g", O_RDWR | O_CREAT);
  f.append(filled(10 * 4096 + 5, 7));
  const uint64_t used = v.statfs().blocks_used;
  f.clone_to(0, g, 0);
  CHECK(v.statfs().blocks_used == used);
  CHECK(g.stat().size == 10 * 4096 + 5);
  Mapping map = g.map(0, 11 * 4096);
  map.bytes()[3 * 4096] = std::byte{9};
  std::byte b;
  CHECK(f.read({&b, 1}, 3 * 4096) == 1);
  CHECK(b == std::byte{7});
  CHECK(g.read({&b, 1}, 3 * 4096) == 1);
  CHECK(b == std::byte{9});
  CHECK(map.bytes()[3 * 4096 + 1] == std::byte{7});
  CHECK(error_of([&] { f.clone_to(1, g, 0, 4096); }) == EINVAL);
  File r = v.open("/g", O_RDONLY);
  CHECK(error_of([&] { f.clone_to(0, r, 0); }) == EBADF);
}

TEST_CASE("quotas and projects through the C++ API; through a mapping a quota is SIGBUS, here EDQUOT") {
  test::RealManager m;
  Volume v(m.path());
  v.mkdir("/p");
  v.set_project("/p", {7, true});
  CHECK(v.project("/p").id == 7);
  CHECK(v.project("/p").inherit);
  v.set_quota(QuotaKind::kProject, 7, 4, 2);
  File f = v.open("/p/f", O_RDWR | O_CREAT);
  CHECK(error_of([&] { v.open("/p/g", O_RDWR | O_CREAT); }) == EDQUOT);
  CHECK(f.append(filled(4 * 4096, 1)) == 0);
  CHECK(error_of([&] { f.append(filled(1, 1)); }) == EDQUOT);
  CHECK(error_of([&] { f.preallocate(0, 10 * 4096); }) == EDQUOT);
  auto all = v.quotas();
  REQUIRE(all.size() == 1);
  CHECK(all[0].blocks == 4);
  CHECK(all[0].inodes == 2);
  CHECK(all[0].block_limit == 4);
  v.set_quota(QuotaKind::kProject, 7, 0, 0);
  CHECK(v.quotas().empty());
  f.append(filled(1, 1));
  CHECK(error_of([&] { v.set_quota(static_cast<QuotaKind>(3), 1, 1, 1); }) == EINVAL);
}

TEST_CASE("the C API's clone") {
  test::RealManager m;
  pmfs_volume* v = pmfs_connect(m.path().c_str());
  REQUIRE(v != nullptr);
  int f = pmfs_open(v, "/f", O_RDWR | O_CREAT, 0644), g = pmfs_open(v, "/g", O_RDWR | O_CREAT, 0644);
  REQUIRE(pmfs_pwrite(f, "hello", 5, 0) == 5);
  CHECK(pmfs_clone_range(f, 0, 0, g, 0) == 0);
  char text[6] = {};
  CHECK(pmfs_pread(g, text, 5, 0) == 5);
  CHECK(std::string(text) == "hello");
  CHECK(pmfs_clone_range(f, 1, 0, g, 0) == -1);
  CHECK(errno == EINVAL);
  pmfs_close(f);
  pmfs_close(g);
  pmfs_disconnect(v);
}
