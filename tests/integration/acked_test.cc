// Acked mode: clients map blocks directly and must be asked to let go of them. The interleavings of p1_test.cc and
// zeros_test.cc where that makes a difference, and what is special to it: quarantine, fencing, who lives.
#include "tests/integration/asked_fixture.h"

#include "pmfs/base/pause.h"
#include "pmfs/base/sys.h"
#include "tests/integration/restart_fixture.h"

using namespace pmfs;
using namespace pmfs::test;

namespace {

constexpr const char* kBytes = "1048576";

server::ServerOptions acked(std::string_view scheme = exclusion::kDefaultScheme, double fence = 600) {
  server::ServerOptions o = with_scheme(scheme);
  o.force_acked = true;
  o.fence_seconds = fence;
  return o;
}

// A and B have /f mapped, which B then fills with 17: A's first touch of a page is a fault.
void set_up(ClientProcess& a, ClientProcess& b) {
  for (auto* c : {&a, &b}) {
    c->ok("open f /f rwc");
    c->ok(std::string("truncate f ") + kBytes);
    c->ok(std::string("map f m 0 ") + kBytes);
  }
  CHECK(b.cmd(std::string("write f 0 ") + kBytes + " 17") == kBytes);
}

struct Pair : Asked {
  std::unique_ptr<ClientProcess> a, b;
  explicit Pair(server::ServerOptions o = acked()) : Asked(std::move(o)), a(m.client()), b(m.client()) { set_up(*a, *b); }
  uint64_t block_of(uint64_t offset) { return Asked::block_of(offset).v; }
  // Neither free nor reserved for anybody, and in no file.
  bool quarantined(uint64_t block) {
    const meta::BlockState s = m.volume().store().block_state(Pfn(block));
    if (in_a_file(Pfn(block))) return false;
    UNSCOPED_INFO("block " << block << ", state " << static_cast<int>(s) << ", deferred " << m.volume().space().blocks_deferred);
    return (s == meta::BlockState::kUsed || s == meta::BlockState::kDeferred) && m.volume().space().blocks_deferred > 0;
  }
};

// The same with a manager that can be killed.
struct Outlived {
  Restart r{{"--acked"}};
  std::unique_ptr<ClientProcess> a = r.client(), b = r.client();
  Outlived() { set_up(*a, *b); }
};

}  // namespace

TEST_CASE("acked: a store reaches the block, and a punch takes the direct VMA away before it returns", "[acked]") {
  Pair p;
  CHECK(p.a->cmd("load m 8192") == "17");
  p.a->ok("store m 8192 3");
  CHECK(p.b->cmd("load m 8192") == "3");
  const uint64_t block = p.block_of(8192);
  CHECK_FALSE(present_ptes(p.a->pid(), p.m.path() + "/data").empty());
  p.b->ok("punch f 8192 4096");
  CHECK(p.a->cmd("load m 8192") == "0");
  CHECK(p.a->cmd("load m 12288") == "17");
  for (const auto& c : {p.a.get(), p.b.get()})
    for (const PresentPte& pte : present_ptes(c->pid(), p.m.path() + "/data")) CHECK(pte.pfn.v != block);
  p.b->ok("truncate f 4096");
  CHECK(p.a->cmd("load m 8192") == "sigbus");
  p.b->ok(std::string("truncate f ") + kBytes);
  CHECK(p.a->cmd("load m 8192") == "0");
  p.m.check_clean();
}

TEST_CASE("acked: a stopped client delays only the reuse of its blocks, and the punch that took them", "[acked]") {
  Pair p;
  CHECK(p.a->cmd("load m 8192") == "17");
  const uint64_t block = p.block_of(8192);
  p.a->stop();
  p.b->ok("async 1 punch f 8192 4096");
  CHECK(p.pending_for_good(*p.b, "1"));
  // Everything else goes on: other pages, other files, the hole itself.
  CHECK(p.b->cmd("load m 8192") == "0");
  p.b->ok("store m 8192 9");
  p.b->ok("open g /g rwc");
  CHECK(p.b->cmd("write g 0 50331648 85") == "50331648");  // as much as there is
  CHECK(p.quarantined(block));
  CHECK(p.violations(*p.a) == 0);
  p.a->kill(SIGCONT);
  CHECK(p.b->cmd("wait 1") == "ok");
  CHECK(p.a->cmd("load m 8192") == "9");
  CHECK(p.b->cmd("read g 0 65536").find("uniform 85") != std::string::npos);
  CHECK(p.idle());
  p.m.check_clean();
}

TEST_CASE("acked: a client that does not let go is fenced, and then its blocks are free", "[acked]") {
  Pair p(acked(exclusion::kDefaultScheme, 0.2));
  CHECK(p.a->cmd("load m 8192") == "17");
  p.a->stop();
  p.b->ok("punch f 8192 4096");  // returns: A was killed
  p.a->wait_exit();
  CHECK(p.b->cmd("load m 8192") == "0");
  CHECK(p.idle());
  p.m.check_clean();
}

TEST_CASE("acked: the death of a client is an answer", "[acked]") {
  Pair p;
  CHECK(p.a->cmd("load m 8192") == "17");
  p.a->stop();
  p.b->ok("async 1 truncate f 0");
  CHECK(p.pending_for_good(*p.b, "1"));
  p.a->kill(SIGKILL);
  CHECK(p.b->cmd("wait 1") == "ok");
  CHECK(p.idle());
  CHECK(p.m.volume().strangers() == 0);
}

TEST_CASE("acked: hanging up is no answer while the process lives", "[acked]") {
  Pair p;
  CHECK(p.a->cmd("load m 8192") == "17");
  const uint64_t block = p.block_of(8192);
  p.a->stop();
  // Its session ends, as after a breach of the protocol; its process and its VMAs don't.
  for (auto& s : p.m.server().sessions())
    if (s->peer.pid == p.a->pid()) ::shutdown(s->socket(), SHUT_RDWR);
  for (int i = 0; i < 4000 && p.m.volume().strangers() == 0; ++i) ::usleep(1000);
  REQUIRE(p.m.volume().strangers() == 1);
  p.b->ok("async 1 punch f 8192 4096");
  CHECK(p.pending_for_good(*p.b, "1"));
  CHECK(p.quarantined(block));
  p.a->kill(SIGKILL);
  CHECK(p.b->cmd("wait 1") == "ok");
  CHECK(p.idle());
  p.m.check_clean();
}

TEST_CASE("acked: zeros of a hole are no block, and go when somebody stores there", "[acked]") {
  Pair p;
  p.b->ok(std::string("punch f 0 ") + kBytes);
  p.a->ok("check m 0 65536 0");
  CHECK(p.m.volume().stat("/f").blocks == 0);
  p.a->stop();
  p.b->ok("store m 8192 5");  // waits for nobody: the sentinel is the manager's
  p.a->kill(SIGCONT);
  CHECK(p.a->cmd("load m 8192") == "5");
  p.a->ok("store m 12288 6");  // a store to zeros that it was shown itself
  CHECK(p.b->cmd("load m 12288") == "6");
  p.a->ok(std::string("map f n 0 ") + kBytes);  // zeros in two mappings of one client
  CHECK(p.a->cmd("load n 16384") == "0");
  CHECK(p.a->cmd("load m 16384") == "0");
  p.a->ok("store n 16384 7");
  CHECK(p.a->cmd("load m 16384") == "7");
  CHECK(p.b->cmd("write f 20480 4096 8") == "4096");
  CHECK(p.a->cmd("load n 20480") == "8");
  p.m.check_clean();
}

TEST_CASE("acked: pages that are touched one after the other come many at a time", "[acked]") {
  Pair t;
  constexpr uint64_t kPages = 512;
  t.b->ok("open g /g rwc");
  t.b->ok("truncate g " + std::to_string(kPages * kBlockSize));
  t.b->ok("map g n 0 " + std::to_string(kPages * kBlockSize));
  const uint64_t before = t.m.server().faults().counters().faults.get();
  for (uint64_t p = 0; p < kPages; ++p) t.b->ok("store n " + std::to_string(p * kBlockSize) + " 5");
  const uint64_t faults = t.m.server().faults().counters().faults.get() - before;
  CHECK(faults >= 1);
  CHECK(faults <= kPages / 16);
  // Jumps are not followed: what is touched here and there gets its own pages only.
  t.b->ok("open h /h rwc");
  t.b->ok("truncate h " + std::to_string(kPages * kBlockSize));
  t.b->ok("map h o 0 " + std::to_string(kPages * kBlockSize));
  for (uint64_t p = kPages - 100; p > 100; p -= 100) t.b->ok("store o " + std::to_string(p * kBlockSize) + " 5");
  CHECK(t.m.volume().store().getattr(t.m.inode("/h")->ino).blocks <= 8);
}

TEST_CASE("acked: what is unmapped is let go of before the manager forgets it", "[acked]") {
  Pair p;
  CHECK(p.a->cmd("load m 8192") == "17");
  p.a->ok("unmap m");
  CHECK(present_ptes(p.a->pid(), p.m.path() + "/data").empty());
  p.a->stop();
  p.b->ok("punch f 8192 4096");  // it has nothing any more: not waited for
  p.a->kill(SIGCONT);
  p.m.check_clean();
}

TEST_CASE("acked: blocks move, and are shared, when everybody has let go of them", "[acked]") {
  Pair p;
  p.a->ok("fill m 0 4096 1");
  p.a->ok("fill m 4096 4096 2");
  CHECK(p.a->cmd("load m 8192") == "17");
  p.a->stop();
  p.b->ok("async 1 collapse f 0 4096");
  CHECK(p.pending_for_good(*p.b, "1"));
  CHECK(p.b->cmd("load m 0") == "1");  // not begun
  p.a->kill(SIGCONT);
  CHECK(p.b->cmd("wait 1") == "ok");
  CHECK(p.a->cmd("load m 0") == "2");
  CHECK(p.a->cmd("load m 4096") == "17");
  p.a->ok("store m 0 3");
  CHECK(p.b->cmd("load m 0") == "3");
  p.m.check_clean();
}

// The kernel holds a page for I/O (here a pipe) and nobody can ask it for how long. Gated: the zap takes the page out of the
// region, and the I/O goes on with what belongs to nobody. Acked: the page is the block, whoever has it now (docs/semantics.md).
TEST_CASE("a page that the kernel has pinned: orphaned when gated, a limit when acked", "[acked]") {
  for (const bool is_acked : {false, true}) {
    CAPTURE(is_acked);
    if (!is_acked && !can_be_gated()) continue;
    server::ServerOptions o = acked();
    o.force_acked = is_acked;
    Pair p(o);
    CHECK(p.a->cmd("load m 8192") == "17");
    p.a->ok("pin m 8192");
    p.b->ok(std::string("punch f 0 ") + kBytes);
    p.b->ok("open g /g rwc");
    CHECK(p.b->cmd("write g 0 62914560 85") == "62914560");  // every block but a few
    CHECK(p.a->cmd("pinned") == (is_acked ? "85" : "17"));
    p.m.check_clean();
  }
}

#ifdef PMFS_PAUSE_POINTS

namespace {

// Under each scheme: A's access stops at `point` with the old block in its hand; B's operation runs against it. `then`: a touch of
// what came into A's VMA with it: the kernel maps neighbours of tmpfs by itself, those of DAX when they are touched.
void fault_against(const char* point, const std::string& access, const std::string& op, const std::string& then = {}) {
  for (const exclusion::SchemeInfo& s : exclusion::schemes()) {
    if (s.name == "unmap-only") continue;  // its gap is another one
    INFO(s.name);
    Pair p(acked(s.name));
    pause::Gate gate(point);
    p.a->ok("async 1 " + access);
    REQUIRE(gate.wait_arrived());
    p.b->ok("async 1 " + op);
    const bool waited = p.pending_for_good(*p.b, "1");
    CHECK(waited == s.sound);  // sound: behind A's lock entry
    gate.release();
    p.a->cmd("wait 1");
    CHECK(p.b->cmd("wait 1") == "ok");
    if (!then.empty()) p.a->cmd(then);
    CHECK((p.violations(*p.a) == 0) == s.sound);
  }
}

}  // namespace

TEST_CASE("acked: interleaving 1: fault passes the i_size check, truncate shrinks, fault maps", "[acked]") {
  fault_against("fault:before_install", "load m 8192", "truncate f 4096");
}

TEST_CASE("acked: interleavings 2 and 4: the same with a punch, of the page and of one that comes with it", "[acked]") {
  fault_against("fault:before_install", "load m 8192", "punch f 8192 4096");
  fault_against("fault:before_install", "load m 0", "punch f 32768 4096", "load m 32768");
}

TEST_CASE("acked: interleaving 3: between the revoke and the free the old extent is faulted in again", "[acked]") {
  for (const char* scheme : {"range", "unmap-only"}) {
    INFO(scheme);
    Pair p(acked(scheme));
    CHECK(p.a->cmd("load m 8192") == "17");
    fault_before_free(p, scheme == exclusion::kDefaultScheme, "punch f 8192 4096", "load m 8192");
  }
}

TEST_CASE("acked: interleaving 5: a fault that saw a hole does not hide a later store for ever", "[acked]") {
  Pair p;
  p.b->ok(std::string("punch f 0 ") + kBytes);
  pause::Gate gate("fault:before_install");
  p.a->ok("async 1 load m 4096");
  REQUIRE(gate.wait_arrived());
  p.b->ok("async 1 store m 4096 33");
  CHECK(p.pending_for_good(*p.b, "1"));
  gate.release();
  p.b->cmd("wait 1");
  const std::string seen = p.a->cmd("wait 1");
  CHECK((seen == "0" || seen == "33"));
  CHECK(p.a->cmd("load m 4096") == "33");
}

TEST_CASE("acked: interleaving 27: a client killed at each step of a fault and of a revoke", "[acked]") {
  for (const char* point : {"fault:event_read", "fault:entry_locked", "fault:before_install", "fault:installed",
                            "fault:vma_done", "invalidate:before_zap", "invalidate:before_free"}) {
    CAPTURE(point);
    Pair p;
    const bool revoke = std::string(point).rfind("invalidate", 0) == 0;
    if (revoke) CHECK(p.a->cmd("load m 8192") == "17");
    {
      pause::Gate gate(point);
      if (revoke)
        p.b->ok("async 1 punch f 8192 4096");
      else
        p.a->ok("async 1 store m 8192 1");
      REQUIRE(gate.wait_arrived());
      p.a->kill(SIGKILL);
    }
    if (revoke) CHECK(p.b->cmd("wait 1") == "ok");
    p.b->ok(std::string("punch f 0 ") + kBytes);
    CHECK(p.b->cmd("load m 8192") == "0");
    CHECK(p.idle());
    CHECK(p.m.volume().space().blocks_deferred == 0);
    p.m.check_clean();
  }
}

#endif

TEST_CASE("acked: the next manager grants no block that a client of the dead one may still have mapped", "[acked]") {
  for (const bool dies : {true, false}) {
    CAPTURE(dies);
    Outlived o;
    auto& [r, a, b] = o;
    a->ok(std::string("check m 0 ") + kBytes + " 17");
    a->stop();
    b->ok(std::string("async 1 punch f 0 ") + kBytes);
    for (int i = 0; i < 4000 && r.statfs().blocks_deferred == 0; ++i) ::usleep(1000);
    r.restart({"--acked"});
    CHECK(b->cmd("wait 1").find("err 130") == 0);  // EOWNERDEAD
    CHECK(r.statfs().blocks_deferred == 256);
    CHECK(r.ptes(*a) > 0);
    b->ok("open g /g rwc");
    CHECK(b->cmd("write g 0 50331648 85") == "50331648");
    if (dies) {
      a->kill(SIGKILL);
    } else {
      a->kill(SIGCONT);
      CHECK(a->cmd("load m 8192") != "85");  // until it has come to the new manager it may see what it had
    }
    for (int i = 0; i < 4000 && r.statfs().blocks_deferred != 0; ++i) ::usleep(5000);
    CHECK(r.statfs().blocks_deferred == 0);
    if (!dies) a->ok(std::string("check m 0 ") + kBytes + " 0");
    b->ok("close g");
    a.reset();
    b.reset();
    r.check_clean();
  }
}

TEST_CASE("acked: who does not come back from a dead manager is fenced too", "[acked]") {
  Outlived o;
  auto& [r, a, b] = o;
  CHECK(a->cmd("load m 8192") == "17");
  a->stop();
  r.restart({"--acked", "--fence", "0.3"});
  b->ok("punch f 8192 4096");  // returns: A was killed
  a->wait_exit();
  CHECK(b->cmd("load m 8192") == "0");
  a.reset();
  b.reset();
  r.check_clean();
}
