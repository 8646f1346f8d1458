// Interleavings 1-4, 18, 20: a fault against an operation that takes its block away. Each runs under every scheme: where
// it is sound P1 must hold, and those broken on purpose must be caught by the interleavings they leave open.
#include "tests/integration/race_fixture.h"

#ifdef PMFS_PAUSE_POINTS

using namespace pmfs;
using namespace pmfs::test;

namespace {

constexpr char kPages[] = "1048576";  // bytes of the file: 256 pages, each with a block

struct Race {
  Manager m;
  std::unique_ptr<ClientProcess> a, b;
  explicit Race(std::string_view scheme) : m(with_scheme(scheme)), a(m.client()), b(m.client()) {
    for (auto* c : {a.get(), b.get()}) {
      c->ok("open f /f rwc");
      c->ok(std::string("truncate f ") + kPages);
    }
    CHECK(b->cmd(std::string("write f 0 ") + kPages + " 17") == kPages);
    a->ok(std::string("map f m 0 ") + kPages);
    CHECK(a->cmd("load m 1044480") == "17");  // the last page: the VMA is in place, so the next fault installs at once
    exclusion::LockedEntry e = m.inode("/f")->entries.lock(Pgoff(255), 0, Wait::kBlock);  // its pager has left it, too
    REQUIRE(e);
    m.inode("/f")->entries.unlock(e, e.value);
  }
};

// A broken scheme may or may not be caught there.
template <class F>
void under_every_sound_scheme(F&& f) {
  for (const exclusion::SchemeInfo& s : exclusion::schemes()) {
    INFO(s.name);
    if (s.sound) CHECK_FALSE(f(s.name));
  }
}

std::optional<bool> fault_against(std::string_view scheme, const char* point, const std::string& access, const std::string& op,
                                  const std::string& before = "") {
  Race r(scheme);
  if (!before.empty()) r.a->ok(before);
  return race(r, point, access, op);
}

}  // namespace

TEST_CASE("interleaving 1: fault passes the i_size check, truncate shrinks and frees, fault installs", "[p1][gated]") {
  under_every_scheme({"none", "isize-only"}, [](std::string_view s) {
    return fault_against(s, "fault:before_install", "load m 8192", "truncate f 4096");
  });
}

TEST_CASE("interleaving 1 in a mapping that was cut: each piece is covered", "[p1][gated]") {
  for (const char* access : {"load m 8192", "load m 262144"}) {  // left and right of the cut
    under_every_scheme({"none", "isize-only"}, [&](std::string_view s) {
      return fault_against(s, "fault:before_install", access, "truncate f 4096", "cut m 131072 8192");
    });
  }
}

TEST_CASE("interleaving 2: the same with a punch inside EOF", "[p1][gated]") {
  under_every_scheme({"none", "isize-only"}, [](std::string_view s) {
    return fault_against(s, "fault:before_install", "load m 8192", "punch f 8192 4096");
  });
}

TEST_CASE("interleaving 4: fault-around reaches into a range that is being punched", "[p1][gated]") {
  // The touched page 0 is not punched; page 8, which fault-around installs with it, is.
  under_every_scheme({"none", "isize-only"}, [](std::string_view s) {
    return fault_against(s, "fault:before_install", "load m 0", "punch f 32768 4096");
  });
}

TEST_CASE("interleaving 4: a whole punch between the lookup and the locking of what fault-around adds", "[p1][gated]") {
  under_every_sound_scheme([](std::string_view s) {
    Race r(s);
    auto i = r.m.inode("/f");
    for (uint64_t p = 0; p < 256; ++p) {  // as after a mount: nothing is cached, the extent map is asked
      exclusion::LockedEntry e = i->entries.lock(Pgoff(p), 0, Wait::kBlock);
      REQUIRE(e);
      i->entries.unlock(e, exclusion::Entry{});
    }
    pause::Gate gate("fault:looked_up");
    r.a->ok("async 1 load m 0");
    REQUIRE(gate.wait_arrived());
    r.b->ok("async 1 punch f 32768 4096");
    REQUIRE(ended_or_waits(r.m, *r.b, "1"));
    gate.release();
    r.a->cmd("wait 1");
    CHECK(r.b->cmd("wait 1") == "ok");
    // Asked of the kernel and the extent map: the trace believes what the fault believed.
    const std::vector<PresentPte> ptes = present_ptes(r.a->pid(), r.m.path() + "/data");
    CHECK_FALSE(ptes.empty());
    auto extents = r.m.volume().store().extents(r.m.volume().lookup("/f"), {Pgoff(0), Pgoff(256)}, SIZE_MAX);
    return std::any_of(ptes.begin(), ptes.end(), [&](const PresentPte& pte) {
      return std::none_of(extents.begin(), extents.end(),
                          [&](const FileExtent& e) { return e.blocks().contains(pte.pfn); });
    });
  });
}

TEST_CASE("interleaving 3: between the zap and the free the old extent is faulted in again", "[p1][gated]") {
  under_every_scheme({"none", "unmap-only"}, [](std::string_view s) {
    Race r(s);
    CHECK(r.a->cmd("load m 8192") == "17");
    pause::Gate gate("invalidate:before_free");
    r.b->ok("async 1 punch f 8192 4096");
    REQUIRE(gate.wait_arrived());
    r.a->ok("async 1 load m 8192");
    REQUIRE(ended_or_waits(r.m, *r.a, "1"));
    const bool waited = r.a->cmd("poll 1") == "pending";
    gate.release();
    CHECK(r.b->cmd("wait 1") == "ok");
    const std::string seen = r.a->cmd("wait 1");
    if (waited) CHECK(seen == "0");
    return r.m.p1_violations(*r.a) > 0;
  });
}

TEST_CASE("interleaving 18: a freed block is another file's at once; a late fault must not show it", "[p1][gated]") {
  under_every_scheme({"none", "isize-only"}, [](std::string_view s) {
    Race r(s);
    r.b->ok("open g /g rwc");
    pause::Gate gate("fault:before_install");
    r.a->ok("async 1 load m 8192");
    REQUIRE(gate.wait_arrived());
    r.b->ok(std::string("async 1 punch f 0 ") + kPages);
    REQUIRE(ended_or_waits(r.m, *r.b, "1"));
    if (r.b->cmd("poll 1") == "pending") gate.release();
    CHECK(r.b->cmd("wait 1") == "ok");
    // Enough to be given every block that was freed.
    CHECK(r.b->cmd("write g 0 41943040 85") == "41943040");
    gate.release();
    r.a->cmd("wait 1");
    const std::string seen = r.a->cmd("load m 8192");
    CHECK((seen == "0" || seen == "85"));
    return seen == "85";
  });
}

TEST_CASE("interleaving 18: a stopped client reads its old address after its block was reused", "[p1][gated]") {
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

TEST_CASE("interleaving 20: a read-only PTE is written after a punch: no resurrection of the old block", "[p1][gated]") {
  for (const exclusion::SchemeInfo& s : exclusion::schemes()) {
    if (!s.sound) continue;
    INFO(s.name);
    Race r(s.name);
    r.b->ok(std::string("punch f 0 ") + kPages);
    CHECK(r.a->cmd("load m 8192") == "0");  // a zero block, installed read-only
    r.b->ok("punch f 8192 4096");
    pause::Gate gate("fault:before_install");
    r.a->ok("async 1 store m 8192 9");
    REQUIRE(gate.wait_arrived());
    r.b->ok("async 1 punch f 8192 4096");
    REQUIRE(ended_or_waits(r.m, *r.b, "1"));
    gate.release();
    r.a->cmd("wait 1");
    r.b->cmd("wait 1");
    CHECK(r.m.p1_violations(*r.a) == 0);
    std::string v = r.a->cmd("load m 8192");
    CHECK((v == "0" || v == "9"));
    r.m.check_clean();
  }
}

#endif
