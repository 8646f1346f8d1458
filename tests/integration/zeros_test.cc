// Interleavings 5-10: holes, zero blocks, edges of the file, large against small entries.
#include "tests/integration/fixture.h"

#include "pmfs/base/pause.h"

using namespace pmfs;
using namespace pmfs::test;

namespace {

struct TwoClients {
  Manager m{with_pagers()};
  std::unique_ptr<ClientProcess> a = m.client(), b = m.client();
  explicit TwoClients(const std::string& bytes) {
    for (auto* c : {a.get(), b.get()}) {
      c->ok("open f /f rwc");
      c->ok("truncate f " + bytes);
      c->ok("map f m 0 " + bytes);
    }
  }
};

}  // namespace

#ifdef PMFS_PAUSE_POINTS
TEST_CASE("interleaving 5: a fault that saw a hole does not hide a later store for ever", "[zeros]") {
  TwoClients t("65536");
  pause::Gate gate("fault:before_install");
  t.a->ok("async 1 load m 4096");
  REQUIRE(gate.wait_arrived());
  t.b->ok("async 1 store m 4096 33");
  for (int i = 0; i < 4000 && t.m.inode("/f")->entries.waiters() == 0; ++i) ::usleep(1000);
  CHECK(t.b->cmd("poll 1") == "pending");
  gate.release();
  t.b->cmd("wait 1");
  std::string seen = t.a->cmd("wait 1");
  CHECK((seen == "0" || seen == "33"));
  CHECK(t.a->cmd("load m 4096") == "33");
}

TEST_CASE("interleaving 7: two faults on one hole: neither store is zeroed away", "[zeros]") {
  TwoClients t("65536");
  pause::Gate gate("fault:resolved");
  t.a->ok("async 1 store m 4096 1");
  REQUIRE(gate.wait_arrived());
  t.b->ok("async 1 store m 4097 2");
  for (int i = 0; i < 4000 && t.m.inode("/f")->entries.waiters() == 0; ++i) ::usleep(1000);
  gate.release();
  t.a->cmd("wait 1");
  t.b->cmd("wait 1");
  for (auto* c : {t.a.get(), t.b.get()}) {
    CHECK(c->cmd("load m 4096") == "1");
    CHECK(c->cmd("load m 4097") == "2");
  }
  t.m.check_clean();
}
#endif

TEST_CASE("interleaving 6: zeros that one client has mapped become the other's block in place", "[zeros][gated]") {
  TwoClients t("65536");
  t.a->ok("check m 0 65536 0");
  CHECK(t.m.volume().stat("/f").blocks == 0);  // volatile zero blocks are not the file's
  CHECK(t.m.volume().counters().zero_blocks.get() > 0);
  t.b->ok("store m 8192 5");
  CHECK(t.a->cmd("load m 8192") == "5");
  CHECK(t.m.volume().counters().zero_commits.get() > 0);
  t.a->ok("store m 8193 6");
  CHECK(t.b->cmd("load m 8193") == "6");
  t.m.check_clean();
}

TEST_CASE("interleaving 8: what was stored behind the end in the last page is not there after growth", "[zeros]") {
  TwoClients t("8192");
  t.a->ok("fill m 0 8192 7");
  t.b->ok("truncate f 6000");
  CHECK(t.a->cmd("load m 5999") == "7");
  CHECK(t.a->cmd("load m 6000") == "0");  // zeroed by the truncate
  t.a->ok("store m 7000 9");              // behind the end, in the edge page: allowed by mmap
  t.b->ok("truncate f 8192");
  CHECK(t.a->cmd("load m 7000") == "0");
  CHECK(t.b->cmd("read f 6000 2192").find("uniform 0") != std::string::npos);
  t.a->ok("store m 7000 9");
  CHECK(t.b->cmd("write f 8192 10 3") == "10");
  CHECK(t.a->cmd("load m 7000") == "9");  // inside the file it stays
}

TEST_CASE("interleaving 9: beyond EOF SIGBUS; after growth zeros or new data, never old bytes", "[zeros]") {
  TwoClients t("65536");
  t.a->ok("fill m 0 65536 7");
  t.b->ok("truncate f 4096");
  CHECK(t.a->cmd("load m 8192") == "sigbus");
  CHECK(t.a->cmd("store m 8192 1") == "sigbus");
  CHECK(t.b->cmd("write f 16384 4096 4") == "4096");
  CHECK(t.a->cmd("load m 8192") == "0");
  CHECK(t.a->cmd("load m 16384") == "4");
  CHECK(t.a->cmd("load m 20480") == "sigbus");
  t.b->ok("truncate f 65536");
  CHECK(t.a->cmd("load m 20480") == "0");
  t.m.check_clean();
}

TEST_CASE("interleaving 10: 2 MiB entries against small faults and punches", "[zeros][gated]") {
  TwoClients t("16777216");
  t.a->ok("fill m 0 16777216 7");
  bool large = false;
  for (uint64_t p = 0; p < 4096; p += 512) large |= t.m.inode("/f")->entries.peek(Pgoff(p)).order() == kHugeOrder;
  CHECK(large);
  t.b->ok("punch f 6295552 4096");  // 4 KiB in the middle of a large one
  t.b->ok("check m 0 6295552 7");
  t.a->ok("check m 6295552 4096 0");
  t.a->ok("check m 6299648 4194304 7");
  t.b->ok("store m 6295552 1");
  CHECK(t.a->cmd("load m 6295552") == "1");
  t.b->ok("punch f 8389000 5000");  // an unaligned one, inside a large entry
  t.a->ok("check m 8388608 392 7");
  t.a->ok("check m 8389000 5000 0");
  t.a->ok("check m 8394000 4096 7");
  CHECK(t.m.p1_violations(*t.a) == 0);
  CHECK(t.m.p1_violations(*t.b) == 0);
  t.m.check_clean();
}

TEST_CASE("interleaving 10: a large zero entry is broken up by a small store", "[zeros]") {
  TwoClients t("16777216");
  t.a->ok("check m 0 16777216 0");  // read in order: large zero entries
  t.b->ok("store m 5000000 1");
  CHECK(t.a->cmd("load m 5000000") == "1");
  t.a->ok("check m 5003264 4096 0");
  uint64_t blocks = t.m.volume().stat("/f").blocks;
  CHECK(blocks >= 1);
  CHECK(blocks <= 16);
  t.b->ok("punch f 4194304 2097152");
  t.a->ok("check m 4194304 2097152 0");
  t.m.check_clean();
}
