// Interleavings 1-4, 18, 20: a fault against an operation that takes its block away. Each runs under the sound
// scheme, where P1 must hold, and under the broken ones, where the same test must see it violated.
#include "tests/integration/fixture.h"

#include "pmfs/base/pause.h"

#ifdef PMFS_PAUSE_POINTS

using namespace pmfs;
using namespace pmfs::test;

namespace {

constexpr char kPages[] = "1048576";  // bytes of the file: 256 pages, each with a block

struct Race {
  Manager m;
  std::unique_ptr<ClientProcess> a, b;
  explicit Race(const std::string& scheme) : m(broken(scheme.c_str())), a(m.client()), b(m.client()) {
    for (auto* c : {a.get(), b.get()}) {
      c->ok("open f /f rwc");
      c->ok(std::string("truncate f ") + kPages);
    }
    CHECK(b->cmd(std::string("write f 0 ") + kPages + " 17") == kPages);
    a->ok(std::string("map f m 0 ") + kPages);
    CHECK(a->cmd("load m 1044480") == "17");  // the last page: the VMA is in place, so the next fault installs at once
  }
  // True once B's operation `id` has ended or sleeps behind a lock entry or range.
  bool ended_or_waits(const std::string& id) {
    for (int i = 0; i < 4000; ++i) {
      if (b->cmd("poll " + id) == "done" || m.inode("/f")->entries.waiters() > 0) return true;
      ::usleep(1000);
    }
    return false;
  }
};

// A's access stops at `point` with the old block in its hand; B's operation runs against it. Returns how many PTEs
// A then has on blocks that belong to nobody.
size_t fault_against(const std::string& scheme, const char* point, const std::string& access, const std::string& op) {
  Race r(scheme);
  pause::Gate gate(point);
  r.a->ok("async 1 " + access);
  REQUIRE(gate.wait_arrived());
  r.b->ok("async 1 " + op);
  REQUIRE(r.ended_or_waits("1"));
  bool waited = r.b->cmd("poll 1") == "pending";
  CHECK(waited == (scheme == "range"));
  gate.release();
  r.a->cmd("wait 1");
  CHECK(r.b->cmd("wait 1") == "ok");
  return r.m.p1_violations(*r.a);
}

}  // namespace

TEST_CASE("interleaving 1: fault passes the i_size check, truncate shrinks and frees, fault installs", "[p1]") {
  CHECK(fault_against("range", "fault:before_install", "load m 8192", "truncate f 4096") == 0);
  CHECK(fault_against("none", "fault:before_install", "load m 8192", "truncate f 4096") > 0);
  CHECK(fault_against("isize-only", "fault:before_install", "load m 8192", "truncate f 4096") > 0);
}

TEST_CASE("interleaving 2: the same with a punch inside EOF", "[p1]") {
  CHECK(fault_against("range", "fault:before_install", "load m 8192", "punch f 8192 4096") == 0);
  CHECK(fault_against("none", "fault:before_install", "load m 8192", "punch f 8192 4096") > 0);
  CHECK(fault_against("isize-only", "fault:before_install", "load m 8192", "punch f 8192 4096") > 0);
}

TEST_CASE("interleaving 4: fault-around reaches into a range that is being punched", "[p1]") {
  // The touched page 0 is not punched; page 8, which fault-around installs with it, is.
  CHECK(fault_against("range", "fault:before_install", "load m 0", "punch f 32768 4096") == 0);
  CHECK(fault_against("none", "fault:before_install", "load m 0", "punch f 32768 4096") > 0);
}

TEST_CASE("interleaving 3: between the zap and the free the old extent is faulted in again", "[p1]") {
  auto run = [](const std::string& scheme) {
    Race r(scheme);
    CHECK(r.a->cmd("load m 8192") == "17");
    pause::Gate gate("invalidate:before_free");
    r.b->ok("async 1 punch f 8192 4096");
    REQUIRE(gate.wait_arrived());
    r.a->ok("async 1 load m 8192");
    for (int i = 0; i < 4000 && r.a->cmd("poll 1") == "pending" && r.m.inode("/f")->entries.waiters() == 0; ++i)
      ::usleep(1000);
    CHECK((r.a->cmd("poll 1") == "pending") == (scheme == "range"));
    gate.release();
    CHECK(r.b->cmd("wait 1") == "ok");
    std::string seen = r.a->cmd("wait 1");
    if (scheme == "range") CHECK(seen == "0");
    return r.m.p1_violations(*r.a);
  };
  CHECK(run("range") == 0);
  CHECK(run("none") > 0);
}

TEST_CASE("interleaving 18: a freed block is another file's at once; a late fault must not show it", "[p1]") {
  auto run = [](const std::string& scheme) {
    Race r(scheme);
    r.b->ok("open g /g rwc");
    pause::Gate gate("fault:before_install");
    r.a->ok("async 1 load m 8192");
    REQUIRE(gate.wait_arrived());
    r.b->ok(std::string("async 1 punch f 0 ") + kPages);
    REQUIRE(r.ended_or_waits("1"));
    if (scheme == "range") gate.release();
    CHECK(r.b->cmd("wait 1") == "ok");
    // Enough to be given every block that was freed.
    CHECK(r.b->cmd("write g 0 41943040 85") == "41943040");
    gate.release();
    r.a->cmd("wait 1");
    return r.a->cmd("load m 8192");
  };
  CHECK(run("range") == "0");
  CHECK(run("none") == "85");
}

TEST_CASE("interleaving 18: a stopped client reads its old address after its block was reused", "[p1]") {
  Race r("range");
  CHECK(r.a->cmd("load m 8192") == "17");
  r.a->stop();
  r.b->ok("open g /g rwc");
  r.b->ok(std::string("punch f 0 ") + kPages);
  CHECK(r.b->cmd("write g 0 41943040 85") == "41943040");
  CHECK(r.m.p1_violations(*r.a) == 0);
  r.a->kill(SIGCONT);
  CHECK(r.a->cmd("load m 8192") == "0");
  r.a->ok("store m 8192 3");
  CHECK(r.b->cmd("read g 0 65536").find("uniform 85") != std::string::npos);
}

TEST_CASE("interleaving 20: a read-only PTE is written after a punch: no resurrection of the old block", "[p1]") {
  Race r("range");
  r.b->ok(std::string("punch f 0 ") + kPages);
  CHECK(r.a->cmd("load m 8192") == "0");  // a zero block, installed read-only
  r.b->ok("punch f 8192 4096");
  pause::Gate gate("fault:before_install");
  r.a->ok("async 1 store m 8192 9");
  REQUIRE(gate.wait_arrived());
  r.b->ok("async 1 punch f 8192 4096");
  REQUIRE(r.ended_or_waits("1"));
  gate.release();
  r.a->cmd("wait 1");
  r.b->cmd("wait 1");
  CHECK(r.m.p1_violations(*r.a) == 0);
  std::string v = r.a->cmd("load m 8192");
  CHECK((v == "0" || v == "9"));
  r.m.check_clean();
}

#endif
