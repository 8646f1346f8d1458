// Volumes of 2 MiB units with clients: what happens to a page of a unit happens to all of it, but for what gated clients see at the
// end of a file. The interleavings of p1_test.cc and acked_test.cc where the unit is larger than what was touched.
#include <fstream>

#include "tests/integration/asked_fixture.h"
#include "tests/integration/race_fixture.h"

using namespace pmfs;
using namespace pmfs::test;

namespace {

constexpr uint64_t kUnitBytes = kHugeBlocks * kBlockSize, kBytes = 4 * kUnitBytes;

std::string text(uint64_t n) { return std::to_string(n); }
// A page in the middle of unit `n`.
std::string in_unit(uint64_t n, uint64_t page = 5) { return text(n * kUnitBytes + page * kBlockSize); }

server::ServerOptions acked(std::string_view scheme = exclusion::kDefaultScheme) {
  server::ServerOptions o = with_scheme(scheme);
  o.force_acked = true;
  o.fence_seconds = 600;
  return o;
}

// A and B have the four units of /f mapped, which B has filled with 17. `ahead`: mapped when they are there, so that VMAs are in place.
struct Pair : Asked {
  std::unique_ptr<ClientProcess> a, b;
  explicit Pair(server::ServerOptions o, bool ahead = false) : Asked(std::move(o), kHugeBlocks), a(m.client()), b(m.client()) {
    for (auto* c : {a.get(), b.get()}) {
      c->ok("open f /f rwc");
      c->ok("truncate f " + text(kBytes));
      if (!ahead) c->ok("map f m 0 " + text(kBytes));
    }
    CHECK(b->cmd("write f 0 " + text(kBytes) + " 17") == text(kBytes));
    if (!ahead) return;
    a->ok("map f m 0 " + text(kBytes));
    CHECK(a->cmd("load m " + text(kBytes - kBlockSize)) == "17");
    exclusion::LockedEntry e = m.inode("/f")->entries.lock(pgoff_of(kBytes) - kHugeBlocks, kHugeOrder, Wait::kBlock);  // its pager has left it
    REQUIRE(e);
    m.inode("/f")->entries.unlock(e, e.value);
  }
  size_t units_of_f() { return m.volume().store().getattr(m.inode("/f")->ino).blocks / kHugeBlocks; }
};

// Every VMA of the region that the client has: at multiples of a unit, in memory and in the region?
bool vmas_are_units(const ClientProcess& c, const std::string& data) {
  std::ifstream maps("/proc/" + std::to_string(c.pid()) + "/maps");
  size_t n = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(volumes_on_dax() && std::getenv("PMFS_TEST_DEVDAX") != nullptr ? std::getenv("PMFS_TEST_DEVDAX") : data) == line.npos) continue;
    unsigned long first = 0, end = 0, offset = 0;
    REQUIRE(std::sscanf(line.c_str(), "%lx-%lx %*s %lx", &first, &end, &offset) == 3);
    if (((first | end | offset) & (kUnitBytes - 1)) != 0) return false;
    ++n;
  }
  return n > 0;
}

}  // namespace

TEST_CASE("units: a fault gives a file a whole unit, a punch takes whole ones and zeroes the rest, gated", "[units][gated]") {
  if (!can_be_gated()) return;
  Pair p(with_pagers());
  CHECK(p.a->cmd("load m " + in_unit(1)) == "17");
  p.b->ok("punch f " + in_unit(1) + " 4096");
  CHECK(p.units_of_f() == 4);
  CHECK(p.a->cmd("load m " + in_unit(1)) == "0");
  CHECK(p.a->cmd("load m " + in_unit(1, 6)) == "17");
  p.b->ok("punch f " + text(kUnitBytes) + " " + text(2 * kUnitBytes));
  CHECK(p.units_of_f() == 2);
  CHECK(p.m.p1_violations(*p.a) == 0);
  CHECK(p.a->cmd("load m " + in_unit(2)) == "0");
  CHECK(p.units_of_f() == 2);  // zeros are no block of it
  p.a->ok("store m " + in_unit(2) + " 3");
  CHECK(p.units_of_f() == 3);
  CHECK(p.b->cmd("load m " + in_unit(2)) == "3");
  CHECK(p.b->cmd("load m " + in_unit(2, 500)) == "0");
  p.a->ok("fsync f");
  p.m.check_clean();
}

TEST_CASE("units: gated, the end of a file is felt page by page, inside of a unit too", "[units][gated]") {
  if (!can_be_gated()) return;
  Pair p(with_pagers());
  CHECK(p.a->cmd("check m 0 " + text(kBytes) + " 17") == "ok");  // a PTE on each page
  p.b->ok("truncate f " + in_unit(1));
  CHECK(p.units_of_f() == 2);
  CHECK(p.a->cmd("load m " + in_unit(1, 4)) == "17");
  for (const char* op : {"load m ", "store m "})
    for (const std::string& at : {in_unit(1), in_unit(1, 511), in_unit(2)})
      CHECK(p.a->cmd(op + at + (op[0] == 's' ? " 1" : "")) == "sigbus");
  CHECK(p.m.p1_violations(*p.a) == 0);
  p.b->ok("truncate f " + text(kBytes));
  CHECK(p.a->cmd("load m " + in_unit(1)) == "0");
  CHECK(p.a->cmd("check m " + in_unit(1) + " " + text(kBytes - kUnitBytes - 5 * kBlockSize) + " 0") == "ok");
  // The same behind a unit that is only shown as zeros.
  p.b->ok("truncate f " + in_unit(3));
  CHECK(p.a->cmd("load m " + in_unit(3, 4)) == "0");
  p.b->ok("truncate f " + in_unit(3, 2));
  CHECK(p.a->cmd("load m " + in_unit(3, 4)) == "sigbus");
  p.m.check_clean();
}

TEST_CASE("units: gated, a mapping may begin and end inside of units, and be cut there", "[units][gated]") {
  if (!can_be_gated()) return;
  Pair p(with_pagers());
  p.a->ok("map f odd " + in_unit(1) + " " + text(kUnitBytes));
  CHECK(p.a->cmd("check odd 0 " + text(kUnitBytes) + " 17") == "ok");
  p.a->ok("cut odd 8192 4096");
  p.a->ok("store odd 12288 4");
  CHECK(p.b->cmd("load m " + in_unit(1, 8)) == "4");
  p.b->ok("punch f " + text(kUnitBytes) + " " + text(kUnitBytes));
  CHECK(p.a->cmd("load odd 12288") == "0");
  CHECK(p.m.p1_violations(*p.a) == 0);
  p.m.check_clean();
}

TEST_CASE("units: acked, direct VMAs are made of whole units, and a punch of one takes it away", "[units][acked]") {
  Pair p(acked());
  const std::string data = p.m.path() + "/data";
  CHECK(p.a->cmd("load m " + in_unit(1)) == "17");
  p.a->ok("store m " + in_unit(1, 9) + " 3");
  CHECK(p.b->cmd("load m " + in_unit(1, 9)) == "3");
  CHECK(vmas_are_units(*p.a, data));
  p.b->ok("punch f " + in_unit(1) + " 8192");  // a part: zeroed under the VMA
  CHECK(p.a->cmd("load m " + in_unit(1)) == "0");
  CHECK(p.a->cmd("load m " + in_unit(1, 9)) == "3");
  const Pfn block = p.block_of(2 * kUnitBytes + 5 * kBlockSize);
  CHECK(p.a->cmd("load m " + in_unit(2)) == "17");
  p.b->ok("punch f " + text(2 * kUnitBytes) + " " + text(kUnitBytes));
  CHECK(p.idle());
  for (const PresentPte& pte : present_ptes(p.a->pid(), data)) CHECK(pte.pfn != block);
  CHECK(p.violations(*p.a) == 0);
  // The hole, and a store to another page of it.
  CHECK(p.a->cmd("load m " + in_unit(2)) == "0");
  p.b->ok("store m " + in_unit(2, 300) + " 8");
  CHECK(p.a->cmd("load m " + in_unit(2, 300)) == "8");
  CHECK(p.a->cmd("load m " + in_unit(2)) == "0");
  CHECK(vmas_are_units(*p.a, data));
  CHECK(vmas_are_units(*p.b, data));
  p.m.check_clean();
}

TEST_CASE("units: acked, what is behind the end in the last unit reads as zero, and stores there are lost", "[units][acked]") {
  Pair p(acked());
  CHECK(p.a->cmd("load m " + in_unit(1, 300)) == "17");
  p.b->ok("truncate f " + in_unit(1));
  CHECK(p.units_of_f() == 2);
  CHECK(p.a->cmd("load m " + in_unit(1, 4)) == "17");
  CHECK(p.a->cmd("load m " + in_unit(1, 300)) == "0");
  p.a->ok("store m " + in_unit(1, 300) + " 9");
  CHECK(p.a->cmd("load m " + in_unit(2)) == "sigbus");
  CHECK(p.b->cmd("append f 4096 6") == in_unit(1));
  p.b->ok("truncate f " + text(kBytes));
  CHECK(p.a->cmd("load m " + in_unit(1)) == "6");
  CHECK(p.a->cmd("check m " + in_unit(1, 6) + " " + text(kBytes - kUnitBytes - 6 * kBlockSize) + " 0") == "ok");
  p.m.check_clean();
}

TEST_CASE("units: acked, mappings begin and end with units; what would cut one is refused", "[units][acked]") {
  Pair p(acked());
  CHECK(p.a->cmd("map f odd 4096 8192").rfind("err 22", 0) == 0);
  p.a->ok("map f few 0 8192");  // to the end of its unit
  CHECK(p.a->cmd("load few 4096") == "17");
  p.a->ok("store few 4096 2");
  CHECK(vmas_are_units(*p.a, p.m.path() + "/data"));
  p.a->ok("unmap few");
  CHECK(p.a->cmd("cut m 8192 4096").rfind("err 22", 0) == 0);
  CHECK(p.a->cmd("load m 8192") == "17");
  p.a->ok("cut m " + text(kUnitBytes) + " " + text(kUnitBytes));
  CHECK(p.a->cmd("load m " + in_unit(2)) == "17");
  CHECK(p.a->cmd("load m 4096") == "2");
  CHECK(p.a->cmd("load m " + in_unit(1)) == "sigsegv");
  p.m.check_clean();
}

TEST_CASE("units: no room is SIGBUS, until a whole unit is free", "[units][acked]") {
  for (const bool direct : {true, false}) {
    if (!direct && !can_be_gated()) continue;
    CAPTURE(direct);
    Pair p(direct ? acked() : with_pagers());
    p.b->ok("open g /g rwc");
    p.b->ok("punch f 0 " + text(kUnitBytes));
    CHECK(p.idle());
    CHECK(p.a->cmd("load m 4096") == "0");
    const uint64_t room = p.m.volume().space().blocks_total / kHugeBlocks - 3;
    CHECK(p.b->cmd("write g 0 " + text(room * kUnitBytes) + " 85") == text(room * kUnitBytes));
    CHECK(p.a->cmd("store m 4096 1") == "sigbus");
    p.b->ok("punch g 4096 " + text(kUnitBytes));  // no whole one
    CHECK(p.a->cmd("store m 4096 1") == "sigbus");
    p.b->ok("punch g 0 " + text(2 * kUnitBytes));
    CHECK(p.idle());
    p.a->ok("store m 4096 1");
    CHECK(p.b->cmd("load m 4096") == "1");
    CHECK(p.b->cmd("load m 0") == "0");
    p.m.check_clean();
  }
}

TEST_CASE("units: blocks move and are shared by whole ones, in both modes", "[units][acked]") {
  for (const bool direct : {true, false}) {
    if (!direct && !can_be_gated()) continue;
    CAPTURE(direct);
    Pair p(direct ? acked() : with_pagers());
    p.a->ok("store m " + in_unit(2) + " 5");
    CHECK(p.b->cmd("collapse f 4096 " + text(kUnitBytes)).rfind("err 22", 0) == 0);
    p.b->ok("collapse f " + text(kUnitBytes) + " " + text(kUnitBytes));
    CHECK(p.a->cmd("load m " + in_unit(1)) == "5");
    p.b->ok("open g /g rwc");
    p.b->ok("clone f 0 g 0 " + text(2 * kUnitBytes));
    p.a->ok("store m " + in_unit(1) + " 6");
    p.b->ok("map g n 0 " + text(2 * kUnitBytes));
    CHECK(p.b->cmd("load n " + in_unit(1)) == "5");
    CHECK(p.b->cmd("load n " + in_unit(1, 6)) == "17");
    p.m.check_clean();
  }
}

TEST_CASE("units: acked, the death of a client is an answer", "[units][acked]") {
  Pair p(acked());
  p.a->ok("store m " + in_unit(1) + " 5");
  p.a->kill(SIGKILL);
  p.b->ok("punch f 0 " + text(kBytes));
  CHECK(p.idle());
  CHECK(p.m.volume().space().blocks_deferred == 0);
  p.m.check_clean();
}

#ifdef PMFS_PAUSE_POINTS

namespace {

std::optional<bool> gated_fault_against(std::string_view scheme, const char* point, const std::string& access, const std::string& op) {
  Pair p(with_scheme(scheme), true);
  return race(p, point, access, op);
}

void acked_fault_against(const std::string& access, const std::string& op) {
  for (const exclusion::SchemeInfo& s : exclusion::schemes()) {
    if (s.name == "unmap-only") continue;  // its gap is another one
    INFO(s.name);
    Pair p(acked(s.name));
    pause::Gate gate("fault:before_install");
    p.a->ok("async 1 " + access);
    REQUIRE(gate.wait_arrived());
    p.b->ok("async 1 " + op);
    const bool waited = p.pending_for_good(*p.b, "1");
    CHECK(waited == s.sound);
    gate.release();
    p.a->cmd("wait 1");
    CHECK(p.b->cmd("wait 1") == "ok");
    CHECK((p.violations(*p.a) == 0) == s.sound);
  }
}

}  // namespace

TEST_CASE("units: interleaving 1: fault passes the i_size check, truncate takes its unit, fault installs", "[units][p1][gated]") {
  if (!can_be_gated()) return;
  under_every_scheme({"none", "isize-only"}, [](std::string_view s) {
    return gated_fault_against(s, "fault:before_install", "load m " + in_unit(2), "truncate f " + in_unit(1));
  });
}

TEST_CASE("units: interleaving 2: the same with a punch inside of EOF, of another page of the unit too", "[units][p1][gated]") {
  if (!can_be_gated()) return;
  under_every_scheme({"none", "isize-only"}, [](std::string_view s) {
    return gated_fault_against(s, "fault:before_install", "load m " + in_unit(2, 500), "punch f " + text(2 * kUnitBytes) + " " + text(kUnitBytes));
  });
}

TEST_CASE("units: interleaving 3: between the zap and the free the old unit is faulted in again", "[units][p1][gated]") {
  if (!can_be_gated()) return;
  under_every_scheme({"none", "unmap-only"}, [](std::string_view s) {
    Pair p(with_scheme(s), true);
    CHECK(p.a->cmd("load m " + in_unit(2)) == "17");
    pause::Gate gate("invalidate:before_free");
    p.b->ok("async 1 punch f " + text(2 * kUnitBytes) + " " + text(kUnitBytes));
    REQUIRE(gate.wait_arrived());
    p.a->ok("async 1 load m " + in_unit(2, 100));
    REQUIRE(ended_or_waits(p.m, *p.a, "1"));
    const bool waited = p.a->cmd("poll 1") == "pending";
    gate.release();
    CHECK(p.b->cmd("wait 1") == "ok");
    const std::string seen = p.a->cmd("wait 1");
    if (waited) CHECK(seen == "0");
    return p.m.p1_violations(*p.a) > 0;
  });
}

TEST_CASE("units: a fault waits for an invalidate of another page of its unit, and then finds that page as it was", "[units][gated]") {
  if (!can_be_gated()) return;
  Pair p(with_pagers(), true);
  pause::Gate gate("invalidate:before_zap");
  p.b->ok("async 1 punch f " + in_unit(1) + " 4096");
  REQUIRE(gate.wait_arrived());
  p.a->ok("async 1 load m " + in_unit(1, 100));
  REQUIRE(ended_or_waits(p.m, *p.a, "1"));
  CHECK(p.a->cmd("poll 1") == "pending");
  gate.release();
  CHECK(p.b->cmd("wait 1") == "ok");
  CHECK(p.a->cmd("wait 1") == "17");
  CHECK(p.a->cmd("load m " + in_unit(1)) == "0");
}

TEST_CASE("units: acked: interleavings 1 and 2: fault maps a unit that was taken meanwhile", "[units][acked]") {
  acked_fault_against("load m " + in_unit(2), "truncate f " + in_unit(1));
  acked_fault_against("load m " + in_unit(2, 500), "punch f " + text(2 * kUnitBytes) + " " + text(kUnitBytes));
}

TEST_CASE("units: acked: interleaving 3: between the revoke and the free another page of the old unit is faulted in again", "[units][acked]") {
  for (const char* scheme : {"range", "unmap-only"}) {
    INFO(scheme);
    Pair p(acked(scheme));
    CHECK(p.a->cmd("load m " + in_unit(2)) == "17");
    fault_before_free(p, scheme == exclusion::kDefaultScheme, "punch f " + text(2 * kUnitBytes) + " " + text(kUnitBytes),
                      "load m " + in_unit(2, 100));
  }
}

TEST_CASE("units: acked: interleavings 5 and 6: zeros of one page do not hide a later store to another page of the unit", "[units][acked]") {
  Pair p(acked());
  p.b->ok("punch f 0 " + text(kBytes));
  CHECK(p.idle());
  pause::Gate gate("fault:before_install");
  p.a->ok("async 1 load m " + in_unit(1));
  REQUIRE(gate.wait_arrived());
  p.b->ok("async 1 store m " + in_unit(1, 6) + " 33");
  CHECK(p.pending_for_good(*p.b, "1"));
  gate.release();
  p.b->cmd("wait 1");
  CHECK(p.a->cmd("wait 1") == "0");
  CHECK(p.a->cmd("load m " + in_unit(1, 6)) == "33");
  CHECK(p.a->cmd("load m " + in_unit(1)) == "0");
}

TEST_CASE("units: acked: interleaving 7: two faults in the hole of one unit: neither store is zeroed away", "[units][acked]") {
  Pair p(acked());
  p.b->ok("punch f 0 " + text(kBytes));
  CHECK(p.idle());
  pause::Gate gate("fault:resolved");
  p.a->ok("async 1 store m " + in_unit(1, 3) + " 1");
  REQUIRE(gate.wait_arrived());
  p.b->ok("async 1 store m " + in_unit(1, 9) + " 2");
  CHECK(p.pending_for_good(*p.b, "1"));
  gate.release();
  p.a->cmd("wait 1");
  p.b->cmd("wait 1");
  for (auto* c : {p.a.get(), p.b.get()}) {
    CHECK(c->cmd("load m " + in_unit(1, 3)) == "1");
    CHECK(c->cmd("load m " + in_unit(1, 9)) == "2");
  }
  CHECK(p.units_of_f() == 1);
}

TEST_CASE("units: acked: interleaving 18: no unit is used again that a stopped client has mapped", "[units][acked]") {
  Pair p(acked());
  CHECK(p.a->cmd("load m " + in_unit(2)) == "17");
  const Pfn block = p.block_of(2 * kUnitBytes + 5 * kBlockSize);
  p.a->stop();
  p.b->ok("async 1 punch f " + text(2 * kUnitBytes) + " " + text(kUnitBytes));
  CHECK(p.pending_for_good(*p.b, "1"));
  const std::string rest = text(p.m.volume().space().blocks_free * kBlockSize);
  p.b->ok("open g /g rwc");
  CHECK(p.b->cmd("write g 0 " + rest + " 85") == rest);
  CHECK_FALSE(p.in_a_file(block));
  CHECK(p.violations(*p.a) == 0);
  p.a->kill(SIGCONT);
  CHECK(p.b->cmd("wait 1") == "ok");
  CHECK(p.a->cmd("load m " + in_unit(2)) == "0");
  CHECK(p.idle());
  p.m.check_clean();
}

TEST_CASE("units: acked: interleaving 27: a client killed at each step of a fault and of a revoke", "[units][acked]") {
  for (const char* point : {"fault:event_read", "fault:entry_locked", "fault:before_install", "fault:installed",
                            "fault:vma_done", "invalidate:before_zap", "invalidate:before_free"}) {
    CAPTURE(point);
    Pair p(acked());
    const bool revoke = std::string(point).rfind("invalidate", 0) == 0;
    if (revoke) CHECK(p.a->cmd("load m " + in_unit(2)) == "17");
    {
      pause::Gate gate(point);
      if (revoke)
        p.b->ok("async 1 punch f " + text(2 * kUnitBytes) + " " + text(kUnitBytes));
      else
        p.a->ok("async 1 store m " + in_unit(2) + " 1");
      REQUIRE(gate.wait_arrived());
      p.a->kill(SIGKILL);
    }
    if (revoke) CHECK(p.b->cmd("wait 1") == "ok");
    p.b->ok("punch f 0 " + text(kBytes));
    CHECK(p.b->cmd("load m " + in_unit(2)) == "0");
    CHECK(p.idle());
    CHECK(p.m.volume().space().blocks_deferred == 0);
    p.m.check_clean();
  }
}

#endif
