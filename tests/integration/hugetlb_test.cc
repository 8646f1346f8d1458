// A region of huge pages, on a hugetlbfs that the test mounts for itself: gated, with units of 2 MiB, as the kernel knows no less there.
#include "tests/integration/asked_fixture.h"

#include <algorithm>
#include <fstream>
#include <optional>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>

#include "pmfs/base/pause.h"

using namespace pmfs;
using namespace pmfs::test;

namespace {

constexpr uint64_t kUnitBytes = kHugeBlocks * kBlockSize, kBytes = 4 * kUnitBytes, kPages = 32;
constexpr char kPool[] = "/proc/sys/vm/nr_hugepages";

std::string text(uint64_t n) { return std::to_string(n); }
std::string in_unit(uint64_t n, uint64_t page = 5) { return text(n * kUnitBytes + page * kBlockSize); }

uint64_t pool() {
  uint64_t n = 0;
  std::ifstream(kPool) >> n;
  return n;
}

// The pool is the machine's, and another of these tests may run beside this one: it waits.
UniqueFd pool_lock() {
  UniqueFd fd(::open("/sys/kernel/mm/hugepages", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd) ::flock(fd.get(), LOCK_EX);
  return fd;
}

// The pool has kPages more pages and DIR is a hugetlbfs, as long as this lives; what the fixture makes has its data there.
struct Huge {
  UniqueFd lock = pool_lock();  // first: the others are what it keeps
  TempDir dir;
  uint64_t before = pool();
  std::string why;  // it could not be had
  Huge() {
    std::ofstream(kPool) << before + kPages;
    if (pool() < before + kPages) why = std::string(kPool) + " can't be raised";
    else if (::mount("none", dir.path().c_str(), "hugetlbfs", 0, "pagesize=2M") != 0) why = "hugetlbfs can't be mounted";
    else ::setenv("PMFS_TEST_DEVDAX", (dir.path() / "region").c_str(), 1);
  }
  ~Huge() {
    if (why.empty()) {
      ::unsetenv("PMFS_TEST_DEVDAX");
      ::umount2(dir.path().c_str(), MNT_DETACH);
    }
    std::ofstream(kPool) << before;
  }
};

struct Pair : Asked {
  std::unique_ptr<ClientProcess> a, b;
  explicit Pair(server::ServerOptions o) : Asked(std::move(o)), a(m.client()), b(m.client()) {
    for (auto* c : {a.get(), b.get()}) {
      c->ok("open f /f rwc");
      c->ok("truncate f " + text(kBytes));
    }
    CHECK(b->cmd("write f 0 " + text(kBytes) + " 17") == text(kBytes));
    for (auto* c : {a.get(), b.get()}) c->ok("map f m 0 " + text(kBytes));
    CHECK(a->cmd("load m " + text(kBytes - kBlockSize)) == "17");
  }
};

bool can_be_had(const Huge& h) {
  if (::getenv("PMFS_TEST_DIR") != nullptr) return false;
  if (!h.why.empty()) WARN("skipped, no huge pages: " << h.why);
  return h.why.empty();
}

}  // namespace

TEST_CASE("hugetlb: such a region is gated, and its unit a huge page", "[hugetlb][gated]") {
  Huge h;
  if (!can_be_had(h)) return;
  Asked only(with_pagers());
  CHECK(only.m.volume().region().kind() == RegionKind::kHugetlb);
  CHECK(only.m.volume().gated());
  CHECK(only.m.volume().unit().blocks() == kHugeBlocks);
}

TEST_CASE("hugetlb: what others do is seen, and no PTE outlives a punch", "[hugetlb][gated]") {
  Huge h;
  if (!can_be_had(h)) return;
  Pair p(with_pagers());
  CHECK(p.a->cmd("load m " + in_unit(1)) == "17");
  p.a->ok("store m " + in_unit(1) + " 3");
  CHECK(p.b->cmd("load m " + in_unit(1)) == "3");
  p.a->ok("fsync f");
  p.a->ok("store m " + in_unit(1) + " 4");
  CHECK(p.b->cmd("load m " + in_unit(1)) == "4");
  p.b->ok("punch f " + in_unit(1) + " 4096");
  CHECK(p.a->cmd("load m " + in_unit(1)) == "0");
  CHECK(p.a->cmd("load m " + in_unit(1, 6)) == "17");
  p.b->ok("punch f " + text(kUnitBytes) + " " + text(kUnitBytes));
  CHECK(p.m.p1_violations(*p.a) == 0);
  CHECK(p.a->cmd("load m " + in_unit(1)) == "0");
  p.b->ok("store m " + in_unit(1, 9) + " 5");
  CHECK(p.a->cmd("load m " + in_unit(1, 9)) == "5");
  p.b->ok("truncate f " + in_unit(2));
  CHECK(p.a->cmd("load m " + in_unit(2, 4)) == "17");
  CHECK(p.a->cmd("load m " + in_unit(2)) == "0");  // the page table entry is the unit's
  CHECK(p.a->cmd("load m " + in_unit(3)) == "sigbus");
  p.b->ok("truncate f " + text(kBytes));
  CHECK(p.a->cmd("check m " + in_unit(2) + " " + text(kBytes - 2 * kUnitBytes - 5 * kBlockSize) + " 0") == "ok");
  p.b->ok("open g /g rwc");
  p.b->ok("clone f 0 g 0 " + text(2 * kUnitBytes));
  p.a->ok("store m 0 9");
  CHECK(p.b->cmd("read g 0 1").find("uniform 17") != std::string::npos);
  p.b->ok("collapse f 0 " + text(kUnitBytes));
  CHECK(p.a->cmd("load m " + in_unit(0, 9)) == "5");
  CHECK(p.a->cmd("map f odd 4096 8192").rfind("err 22", 0) == 0);
  p.m.check_clean();
}

TEST_CASE("hugetlb: a pool that has no page left is ENOSPC and SIGBUS of the client, not of the manager", "[hugetlb][gated]") {
  Huge h;
  if (!can_be_had(h)) return;
  Pair p(with_pagers());  // sparse: pages are taken as they are used
  std::ofstream(kPool) << 6;
  const std::string wrote = p.b->cmd("open g /g rwc") == "ok" ? p.b->cmd("write g 0 " + text(16 * kUnitBytes) + " 1") : "";
  CHECK((wrote.rfind("err 28", 0) == 0 || std::strtoull(wrote.c_str(), nullptr, 10) < 16 * kUnitBytes));
  CHECK(p.a->cmd("load m 0") == "17");
  p.m.check_clean();
}

TEST_CASE("hugetlb: where clients are asked nothing is punched, and a unit that comes back is zero all the same", "[hugetlb][acked]") {
  Huge h;
  if (!can_be_had(h)) return;
  server::ServerOptions o = with_pagers();
  o.force_acked = true;
  Pair p(std::move(o));
  CHECK_FALSE(p.m.volume().gated());
  const uint64_t rest = p.m.volume().space().blocks_free * kBlockSize;  // so that what /f gives up is what it gets
  p.b->ok("open g /g rwc");
  CHECK(p.b->cmd("write g 0 " + text(rest) + " 1") == text(rest));
  p.b->ok("truncate f 0");
  p.b->ok("truncate f " + text(kBytes));
  p.a->ok("store m " + in_unit(1) + " 9");
  CHECK(p.b->cmd("load m " + in_unit(1)) == "9");
  CHECK(p.b->cmd("load m " + in_unit(1, 6)) == "0");
  CHECK(p.b->cmd("check m " + in_unit(2, 0) + " " + text(kUnitBytes) + " 0") == "ok");
  p.m.check_clean();
}

#ifdef PMFS_PAUSE_POINTS

TEST_CASE("hugetlb: interleaving 2: fault looks its unit up, punch frees it, fault installs", "[hugetlb][p1][gated]") {
  Huge h;
  if (!can_be_had(h)) return;
  for (const char* scheme : {"range", "none"}) {
    INFO(scheme);
    Pair p(with_scheme(scheme));
    exclusion::LockedEntry e = p.m.inode("/f")->entries.lock(pgoff_of(kBytes) - kHugeBlocks, kHugeOrder, Wait::kBlock);
    REQUIRE(e);
    p.m.inode("/f")->entries.unlock(e, e.value);
    pause::Gate gate("fault:before_install");
    p.a->ok("async 1 load m " + in_unit(2));
    REQUIRE(gate.wait_arrived());
    p.b->ok("async 1 punch f " + text(2 * kUnitBytes) + " " + text(kUnitBytes));
    const bool waited = p.pending_for_good(*p.b, "1");
    CHECK(waited == (std::string(scheme) == "range"));
    gate.release();
    p.a->cmd("wait 1");
    CHECK(p.b->cmd("wait 1") == "ok");
    CHECK((p.m.p1_violations(*p.a) > 0) == !waited);
  }
}

#endif
