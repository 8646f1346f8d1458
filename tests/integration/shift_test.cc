// Interleaving 17: collapse and insert against faults and stores of clients that map the file. Offsets shift inside
// EOF; a client must see its stores at their new place, and nothing at the old one.
#include "tests/integration/fixture.h"

#include "pmfs/base/pause.h"

#ifdef PMFS_PAUSE_POINTS

using namespace pmfs;
using namespace pmfs::test;

namespace {

constexpr unsigned kPages = 64;
std::string at(unsigned page) { return std::to_string(page * 4096); }

// File /f, page k full of k + 1; A has all of it mapped, B changes it.
struct Shift {
  Manager m;
  std::unique_ptr<ClientProcess> a, b;
  explicit Shift(const std::string& scheme = "range") : m(with_scheme(scheme)), a(m.client()), b(m.client()) {
    for (auto* c : {a.get(), b.get()}) c->ok("open f /f rwc");
    for (unsigned k = 0; k < kPages; ++k) CHECK(b->cmd("write f " + at(k) + " 4096 " + std::to_string(k + 1)) == "4096");
    a->ok("map f m 0 " + at(kPages));
    CHECK(a->cmd("load m " + at(kPages - 1)) == "64");  // the VMA is in place
  }
  bool ended_or_waits(const std::string& id) {
    for (int i = 0; i < 4000; ++i) {
      if (b->cmd("poll " + id) == "done" || m.waiters("/f") > 0) return true;
      ::usleep(1000);
    }
    return false;
  }
};

// A's load of page 8 stops with the old block in its hand, B takes the first page away. What A then reads there.
std::string stale_fault(const std::string& scheme) {
  Shift s(scheme);
  pause::Gate gate("fault:before_install");
  s.a->ok("async 1 load m " + at(8));
  REQUIRE(gate.wait_arrived());
  s.b->ok("async 1 collapse f 0 4096");
  REQUIRE(s.ended_or_waits("1"));
  CHECK((s.b->cmd("poll 1") == "pending") == exclusion::find_scheme(scheme)->sound);
  gate.release();
  s.a->cmd("wait 1");
  CHECK(s.b->cmd("wait 1") == "ok");
  return s.a->cmd("load m " + at(8));
}

// A has page 8 mapped writable; B's collapse of page 0 stops when it has write-protected A's pages; A stores to page 8.
// What A then reads there: page 9 has come to it, and the store comes after that.
std::string late_store(const std::string& scheme) {
  Shift s(scheme);
  for (unsigned k : {8u, 9u}) s.a->ok("store m " + at(k) + " " + std::to_string(k + 1));
  pause::Gate gate("evacuate:frozen");
  s.b->ok("async 1 collapse f 0 4096");
  REQUIRE(gate.wait_arrived());
  s.a->ok("async 1 store m " + at(8) + " 200");
  for (int i = 0; i < 4000 && s.a->cmd("poll 1") == "pending" && s.m.waiters("/f") == 0; ++i) ::usleep(1000);
  CHECK((s.a->cmd("poll 1") == "pending") == exclusion::find_scheme(scheme)->sound);
  gate.release();
  CHECK(s.b->cmd("wait 1") == "ok");
  CHECK(s.a->cmd("wait 1") == "ok");
  if (exclusion::find_scheme(scheme)->sound) {
    CHECK(s.a->cmd("load m " + at(7)) == "9");  // the old page 8 as it was
    CHECK(s.m.p1_violations(*s.a) == 0);
    s.m.check_clean();
  }
  return s.a->cmd("load m " + at(8));
}

}  // namespace

TEST_CASE("interleaving 17: a fault holds the block from before the shift", "[p1][gated]") {
  for (const exclusion::SchemeInfo& i : exclusion::schemes()) {
    if (!i.sound) continue;
    INFO(i.name);
    CHECK(stale_fault(std::string(i.name)) == "10");
  }
  CHECK(stale_fault("none") == "9");
  CHECK(stale_fault("isize-only") == "9");
}

TEST_CASE("interleaving 17: a store while its page is moved", "[p1][gated]") {
  for (const exclusion::SchemeInfo& i : exclusion::schemes()) {
    if (!i.sound) continue;
    INFO(i.name);
    CHECK(late_store(std::string(i.name)) == "200");
  }
  CHECK(late_store("none") != "200");  // it went to the old block
}

TEST_CASE("collapse and insert under a client that has every page mapped", "[p1]") {
  Shift s;
  for (unsigned k = 0; k < kPages; ++k) {
    if (k % 3 == 0) s.a->ok("store m " + at(k) + " " + std::to_string(k + 101));
    if (k % 3 == 1) CHECK(s.a->cmd("load m " + at(k)) == std::to_string(k + 1));
  }
  auto value = [](unsigned k) { return std::to_string(k % 3 == 0 ? k + 101 : k + 1); };
  SECTION("collapse") {
    s.b->ok("collapse f " + at(10) + " " + at(20));
    for (unsigned k = 0; k < 44; ++k) CHECK(s.a->cmd("load m " + at(k)) == value(k < 10 ? k : k + 20));
    CHECK(s.a->cmd("load m " + at(44)).find("sigbus") != std::string::npos);
  }
  SECTION("insert") {
    s.b->ok("insert f " + at(10) + " " + at(20));
    for (unsigned k = 0; k < 64; ++k)
      CHECK(s.a->cmd("load m " + at(k)) == (k < 10 ? value(k) : k < 30 ? "0" : value(k - 20)));
    s.a->ok("store m " + at(12) + " 77");
    CHECK(s.b->cmd("read f " + at(12) + " 1").find("uniform 77") != std::string::npos);
  }
  SECTION("both, many times, while stores go on elsewhere") {
    for (int round = 0; round < 30; ++round) {
      s.a->ok("store m " + at(40) + " " + std::to_string(round + 1));
      s.b->ok("insert f " + at(5) + " 8192");
      CHECK(s.a->cmd("load m " + at(42)) == std::to_string(round + 1));
      s.a->ok("store m " + at(42) + " " + std::to_string(round + 2));
      s.b->ok("collapse f " + at(5) + " 8192");
      CHECK(s.a->cmd("load m " + at(40)) == std::to_string(round + 2));
    }
  }
  CHECK(s.m.p1_violations(*s.a) == 0);
  s.m.check_clean();
}

// The read-only PTE of a zero or unwritten block is still there when a call has written to it.
TEST_CASE("a page that was shown as zeros and then written by a call moves too", "[p1]") {
  Manager m;
  auto a = m.client(), b = m.client();
  for (auto* c : {a.get(), b.get()}) c->ok("open g /g rwc");
  const bool unwritten = GENERATE(false, true);
  if (unwritten) {
    b->ok("prealloc g 0 " + at(16));
  } else {
    b->ok("truncate g " + at(16));
  }
  a->ok("map g m 0 " + at(16));
  for (unsigned k = 0; k < 16; ++k) CHECK(a->cmd("load m " + at(k)) == "0");
  for (unsigned k = 4; k < 12; ++k) CHECK(b->cmd("write g " + at(k) + " 4096 " + std::to_string(k + 1)) == "4096");
  SECTION("collapse") {
    b->ok("collapse g " + at(2) + " 4096");
    for (unsigned k = 0; k < 15; ++k) CHECK(a->cmd("load m " + at(k)) == (k >= 3 && k < 11 ? std::to_string(k + 2) : "0"));
  }
  SECTION("insert") {
    b->ok("insert g " + at(2) + " 4096");
    for (unsigned k = 0; k < 16; ++k) CHECK(a->cmd("load m " + at(k)) == (k >= 5 && k < 13 ? std::to_string(k) : "0"));
  }
  SECTION("clone, then a write to the other file") {
    b->ok("open h /h rwc");
    b->ok("clone g 0 h 0 " + at(16));
    CHECK(b->cmd("write g " + at(5) + " 4096 99") == "4096");
    CHECK(a->cmd("load m " + at(5)) == "99");
    CHECK(b->cmd("read h " + at(5) + " 1").find("uniform 6") != std::string::npos);
  }
  CHECK(m.p1_violations(*a) == 0);
  m.check_clean();
}

TEST_CASE("a stopped client finds its stores at their new place", "[p1][gated]") {
  Shift s;
  s.a->ok("store m " + at(20) + " 111");
  s.a->stop();
  s.b->ok("collapse f 0 " + at(10));
  CHECK(s.m.p1_violations(*s.a) == 0);
  CHECK(s.b->cmd("read f " + at(10) + " 1").find("uniform 111") != std::string::npos);
  s.a->kill(SIGCONT);
  CHECK(s.a->cmd("load m " + at(10)) == "111");
  CHECK(s.a->cmd("load m " + at(20)) == "31");
}

#endif
