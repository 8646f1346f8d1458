// Shared blocks against clients that map both files: a store is seen in its own file only, and no client has a PTE on a
// shared block.
#include "tests/integration/fixture.h"

#include <map>

#include "pmfs/base/pause.h"

#ifdef PMFS_PAUSE_POINTS

using namespace pmfs;
using namespace pmfs::test;

namespace {

std::string at(unsigned page) { return std::to_string(page * 4096); }

// /f has 32 pages, page k full of k + 1, mapped by A with stores to some; /g is empty. B clones.
struct Clone {
  Manager m;
  std::unique_ptr<ClientProcess> a, b;
  explicit Clone(const char* scheme = "range") : m(with_scheme(scheme)), a(m.client()), b(m.client()) {
    for (auto* c : {a.get(), b.get()}) {
      c->ok("open f /f rwc");
      c->ok("open g /g rwc");
    }
    for (unsigned k = 0; k < 32; ++k) CHECK(b->cmd("write f " + at(k) + " 4096 " + std::to_string(k + 1)) == "4096");
    a->ok("map f mf 0 " + at(32));
    a->ok("map g mg 0 " + at(32));
    for (unsigned k = 0; k < 8; ++k) a->ok("store mf " + at(k) + " " + std::to_string(k + 101));
  }
  // PTEs of `c` on blocks that more than one page of a file has.
  size_t shared_ptes(const ClientProcess& c) {
    std::map<uint64_t, int> owners;
    for (const char* p : {"/f", "/g"})
      for (const FileExtent& e : m.volume().store().extents(m.volume().lookup(p), {Pgoff(0), kEndOfFile}, SIZE_MAX))
        for (uint64_t k = 0; k < e.count; ++k) ++owners[e.pfn.v + k];
    size_t bad = 0;
    for (const PresentPte& p : present_ptes(c.pid(), m.path() + "/data")) bad += owners[p.pfn.v] > 1;
    return bad;
  }
};

}  // namespace

TEST_CASE("a clone has the stores made before it, and then each file has its own", "[p1]") {
  Clone c;
  c.b->ok("clone f 0 g 0");
  CHECK(c.shared_ptes(*c.a) == 0);
  for (unsigned k = 0; k < 32; ++k) {
    const std::string v = std::to_string(k < 8 ? k + 101 : k + 1);
    CHECK(c.a->cmd("load mg " + at(k)) == v);
    CHECK(c.shared_ptes(*c.a) == 0);
    if (k % 2 == 0) c.a->ok("store mf " + at(k) + " 200");
    if (k % 2 == 1) c.a->ok("store mg " + at(k) + " 201");
    CHECK(c.a->cmd("load mf " + at(k)) == (k % 2 == 0 ? "200" : v));
    CHECK(c.a->cmd("load mg " + at(k)) == (k % 2 == 1 ? "201" : v));
  }
  CHECK(c.m.p1_violations(*c.a) == 0);
  c.m.check_clean();
}

TEST_CASE("a store that meets a clone goes to its own file only", "[p1]") {
  auto run = [](const char* scheme) {
    Clone c(scheme);
    pause::Gate gate("clone:evacuated");
    c.b->ok("async 1 clone f 0 g 0");
    REQUIRE(gate.wait_arrived());
    c.a->ok("async 1 store mf " + at(3) + " 222");
    for (int i = 0; i < 4000 && c.a->cmd("poll 1") == "pending" && c.m.inode("/f")->entries.waiters() == 0; ++i)
      ::usleep(1000);
    gate.release();
    CHECK(c.b->cmd("wait 1") == "ok");
    CHECK(c.a->cmd("wait 1") == "ok");
    CHECK(c.a->cmd("load mf " + at(3)) == "222");
    return c.b->cmd("read g " + at(3) + " 1").find("uniform 104") != std::string::npos;
  };
  CHECK(run("range"));
  CHECK_FALSE(run("none"));  // the store's PTE is on the block that the clone shares
}

TEST_CASE("two clients write the two sides of a clone at once", "[p1]") {
  Clone c;
  c.b->ok("clone f 0 g 0");
  c.b->ok("map g mg 0 " + at(32));
  pause::Gate gate("cow:copied");
  c.a->ok("async 1 store mf " + at(20) + " 7");
  REQUIRE(gate.wait_arrived());
  c.b->ok("async 1 store mg " + at(20) + " 8");
  gate.release();
  CHECK(c.a->cmd("wait 1") == "ok");
  CHECK(c.b->cmd("wait 1") == "ok");
  CHECK(c.a->cmd("load mf " + at(20)) == "7");
  CHECK(c.a->cmd("load mg " + at(20)) == "8");
  CHECK(c.shared_ptes(*c.a) == 0);
  c.m.check_clean();
}

#endif
