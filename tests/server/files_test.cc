// kFiles: the busiest files, and no more than were asked for.
#include <cstring>

#include <fcntl.h>

#include "tests/server/server_fixture.h"

using namespace pmfs;
using namespace pmfs::proto;
using namespace pmfs::test;

namespace {

std::vector<WireFile> files(RawClient& c, uint64_t most) {
  const Reply r = c.ask(Op::kFiles, "", most);
  REQUIRE(r.err == 0);
  REQUIRE(r.v0 <= most);
  std::vector<WireFile> all(r.v0);
  if (!all.empty()) std::memcpy(all.data(), c.ring->bounce(0), all.size() * sizeof(WireFile));
  return all;
}

}  // namespace

TEST_CASE("the busiest files first, as many as asked for") {
  ServerFixture f;
  RawClient c(f.path);
  std::vector<Reply> open;
  for (const char* name : {"/quiet", "/busy", "/some"}) {
    open.push_back(c.ask(Op::kOpen, name, O_RDWR | O_CREAT, 0600));
    REQUIRE(open.back().err == 0);
    REQUIRE(c.ask(Op::kTruncate, name, 64 * kBlockSize).err == 0);
  }
  REQUIRE(c.ask(Op::kPreallocate, "/busy", 0, 32 * kBlockSize).err == 0);
  REQUIRE(c.ask(Op::kPunch, "/busy", 0, 32 * kBlockSize).err == 0);
  REQUIRE(c.ask(Op::kPunch, "/some", 0, 4 * kBlockSize).err == 0);
  const auto all = files(c, kMostFiles);
  REQUIRE(all.size() == 3);
  CHECK(all[0].ino == open[1].attr.ino);
  CHECK(all[0].size == 64 * kBlockSize);
  CHECK(all[0].invalidates == 1);
  CHECK(all[0].zapped_pages == 32);
  CHECK(all[0].faults == 0);
  CHECK(all[0].waits == 0);
  CHECK(all[1].ino == open[2].attr.ino);
  CHECK(all[1].invalidates == 1);
  CHECK(all[2].ino == open[0].attr.ino);
  CHECK(all[2].invalidates == 0);
  CHECK(files(c, 1).size() == 1);
  CHECK(files(c, 1)[0].ino == open[1].attr.ino);
  CHECK(files(c, 0).empty());
  CHECK(c.ask(Op::kFiles, "", kMostFiles + 1).err == EINVAL);
  Request close{};
  close.op = static_cast<uint16_t>(Op::kClose);
  close.version = kVersion;
  close.handle = open[1].handle;
  REQUIRE(c.ask(0, close).err == 0);
  CHECK(files(c, kMostFiles).size() == 2);  // those in use
}
