// The thinnest true path: a client's store reaches a block through a PTE that the manager installed, and a
// truncate takes it away.
#include "tests/integration/fixture.h"

using namespace pmfs;
using namespace pmfs::test;

TEST_CASE("a store through a mapping reaches the file's block", "[integration]") {
  Manager m;
  auto c = m.client();
  c->ok("open f /f rwc");
  c->ok("truncate f 65536");
  c->ok("map f m 0 65536");
  c->ok("store m 5 42");
  CHECK(c->cmd("load m 5") == "42");
  CHECK(c->cmd("load m 4096") == "0");
  Ino ino = m.volume().lookup("/f");
  auto extents = m.volume().store().extents(ino, {Pgoff(0), kEndOfFile}, 10);
  REQUIRE(extents.size() >= 1);
  CHECK(m.volume().region().address(extents[0].pfn)[5] == std::byte{42});
  m.check_clean();
}

TEST_CASE("a truncate takes the PTE away and a growth shows zeros", "[integration]") {
  Manager m;
  auto a = m.client(), b = m.client();
  for (auto* c : {a.get(), b.get()}) {
    c->ok("open f /f rwc");
    c->ok("truncate f 65536");
    c->ok("map f m 0 65536");
  }
  a->ok("store m 8192 7");
  CHECK(b->cmd("load m 8192") == "7");
  b->ok("truncate f 4096");
  CHECK(a->cmd("load m 8192") == "sigbus");
  CHECK(b->cmd("load m 8192") == "sigbus");
  b->ok("truncate f 65536");
  CHECK(a->cmd("load m 8192") == "0");
  CHECK(b->cmd("load m 8192") == "0");
  m.check_clean();
}

TEST_CASE("a truncate zeroes the rest of the last page, also what was stored there behind the end", "[integration]") {
  Manager m;
  auto c = m.client();
  c->ok("open f /f rwc");
  c->ok("truncate f 6000");
  c->ok("map f m 0 8192");
  c->ok("store m 5500 1");
  c->ok("store m 7000 2");
  CHECK(c->cmd("load m 7000") == "2");
  c->ok("truncate f 5000");
  CHECK(c->cmd("load m 5500") == "0");
  CHECK(c->cmd("load m 7000") == "0");
  c->ok("truncate f 8192");
  CHECK(c->cmd("load m 7000") == "0");
  m.check_clean();
}

TEST_CASE("a punch takes the PTE away and the page reads as zero", "[integration]") {
  Manager m;
  auto a = m.client(), b = m.client();
  for (auto* c : {a.get(), b.get()}) {
    c->ok("open f /f rwc");
    c->ok("truncate f 8388608");
    c->ok("map f m 0 8388608");
  }
  a->ok("fill m 0 8388608 9");
  b->ok("check m 0 8388608 9");
  a->ok("punch f 1048576 65536");
  b->ok("check m 0 1048576 9");
  b->ok("check m 1048576 65536 0");
  b->ok("check m 1114112 65536 9");
  b->ok("store m 1048576 5");
  CHECK(a->cmd("load m 1048576") == "5");
  m.check_clean();
}

TEST_CASE("when all clients are gone nothing is reserved, deferred or zero", "[integration][gated]") {
  Manager m;
  {
    auto a = m.client();
    a->ok("open f /f rwc");
    a->ok("truncate f 8388608");
    a->ok("map f m 0 8388608");
    a->ok("check m 0 4194304 0");
    a->ok("fill m 4194304 65536 1");
    CHECK(m.volume().counters().zero_blocks.get() > 0);
    a->kill(SIGKILL);
  }
  for (int i = 0; i < 1000 && !m.server().sessions().empty(); ++i) usleep(10000);
  REQUIRE(m.server().sessions().empty());
  for (int i = 0; i < 1000 && m.volume().space().blocks_reserved > 0; ++i) usleep(10000);
  auto s = m.volume().space();
  CHECK(s.blocks_reserved == 0);
  CHECK(s.blocks_deferred == 0);
  CHECK(m.volume().counters().zero_blocks.get() == 0);
  CHECK(s.blocks_used == m.volume().stat("/f").blocks);
  m.check_clean();
}
