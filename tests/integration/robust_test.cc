// Interleavings 14, 21, 22, 24-29: references, no-wait, fork, progress, failures, death, userfaultfd's corners.
#include "tests/integration/fixture.h"

#include <atomic>
#include <cerrno>

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/base/sys.h"

using namespace pmfs;
using namespace pmfs::test;

namespace {

struct Two {
  Manager m;
  std::unique_ptr<ClientProcess> a, b;
  explicit Two(const std::string& bytes = "1048576", bool written = true, uint64_t blocks = 16384)
      : m(with_pagers(), blocks), a(m.client()), b(m.client()) {
    for (auto* c : {a.get(), b.get()}) {
      c->ok("open f /f rwc");
      c->ok("truncate f " + bytes);
      c->ok("map f m 0 " + bytes);
    }
    if (written) CHECK(b->cmd("write f 0 " + bytes + " 17") == bytes);
  }
};

// Makes chosen system calls fail, a limited number of times.
class FailingSys final : public Sys {
 public:
  FailingSys() { set_sys(this); }
  ~FailingSys() override { set_sys(nullptr); }
  std::atomic<int> punch{0}, punch_after{0}, full{0}, uffd_eagain{0};
  int punch_hole(int fd, uint64_t off, uint64_t n) override {
    if (punch_after > 0 && punch_after-- > 0) return Sys::punch_hole(fd, off, n);
    return punch > 0 && punch-- > 0 ? EIO : Sys::punch_hole(fd, off, n);
  }
  int populate_write(void* p, size_t n) override {
    return full > 0 && full-- > 0 ? EFAULT : Sys::populate_write(p, n);
  }
  int write_at(int fd, const void* p, size_t n, uint64_t at) override {
    return full > 0 && full-- > 0 ? ENOSPC : Sys::write_at(fd, p, n, at);
  }
  int uffd_ioctl(int fd, unsigned long request, void* arg) override {
    if (request == UFFDIO_CONTINUE && uffd_eagain > 0 && uffd_eagain-- > 0) {
      static_cast<uffdio_continue*>(arg)->mapped = 0;
      return EAGAIN;
    }
    return Sys::uffd_ioctl(fd, request, arg);
  }
};

}  // namespace

#ifdef PMFS_PAUSE_POINTS

TEST_CASE("interleaving 14: last close and unlink while a fault is under way", "[robust]") {
  Two t;
  uint64_t used = t.m.volume().space().blocks_used;
  CHECK(used == 256);
  pause::Gate gate("fault:before_install");
  t.a->ok("async 1 load m 8192");
  REQUIRE(gate.wait_arrived());
  t.b->ok("unlink /f");
  t.b->ok("unmap m");
  t.b->ok("close f");
  t.a->kill(SIGKILL);
  for (int i = 0; i < 2000 && t.m.server().sessions().size() > 1; ++i) ::usleep(5000);
  CHECK(t.m.volume().space().blocks_used == used);  // the fault still holds the inode
  gate.release();
  for (int i = 0; i < 2000 && t.m.volume().space().blocks_used > 0; ++i) ::usleep(5000);
  CHECK(t.m.volume().space().blocks_used == 0);
  CHECK(t.m.volume().store().orphans().empty());
  t.m.check_clean();
}

TEST_CASE("interleaving 21: no-wait operations say EAGAIN behind a fault and leave nothing behind", "[robust]") {
  Two t;
  {
    pause::Gate gate("fault:before_install");
    t.a->ok("async 1 load m 8192");
    REQUIRE(gate.wait_arrived());
    CHECK(t.b->cmd("punch f 8192 4096 nowait").substr(0, 6) == "err 11");
    CHECK(t.b->cmd("truncate f 4096 nowait").substr(0, 6) == "err 11");
    CHECK(t.b->cmd("zero f 8192 4096 nowait").substr(0, 6) == "err 11");
    CHECK(t.m.inode("/f")->entries.waiters() == 0);
    CHECK_FALSE(t.m.inode("/f")->entries.marked(Pgoff(2)));
    gate.release();
    CHECK(t.a->cmd("wait 1") == "17");
  }
  {
    pause::Gate gate("invalidate:before_zap");
    t.b->ok("async 1 punch f 8192 4096");
    REQUIRE(gate.wait_arrived());
    CHECK(t.a->cmd("punch f 4096 65536 nowait").substr(0, 6) == "err 11");
    CHECK(t.a->cmd("truncate f 0 nowait").substr(0, 6) == "err 11");
    gate.release();
    CHECK(t.b->cmd("wait 1") == "ok");
  }
  t.b->ok("punch f 0 1048576 nowait");
  t.m.check_clean();
}

TEST_CASE("interleaving 25: a punch of the range that its own client's thread is faulting on", "[robust]") {
  Two t;
  pause::Gate gate("fault:before_install");
  t.a->ok("async 1 load m 8192");
  REQUIRE(gate.wait_arrived());
  t.a->ok("async 2 punch f 0 65536");
  for (int i = 0; i < 4000 && t.m.inode("/f")->entries.waiters() == 0; ++i) ::usleep(1000);
  gate.release();
  CHECK(t.a->cmd("wait 2") == "ok");
  std::string v = t.a->cmd("wait 1");
  CHECK((v == "17" || v == "0"));
  CHECK(t.a->cmd("load m 8192") == "0");
}

TEST_CASE("interleaving 27: a client killed at each step of a fault leaves the others running and no leak", "[robust]") {
  for (const char* point : {"fault:event_read", "fault:entry_locked", "fault:resolved", "fault:before_install",
                            "fault:installed"}) {
    CAPTURE(point);
    Two t("1048576", false);
    pause::Gate gate(point);
    t.a->ok("async 1 store m 8192 1");
    REQUIRE(gate.wait_arrived());
    t.a->kill(SIGKILL);
    t.b->ok("store m 819200 2");  // far from what the held fault has locked
    gate.release();
    t.b->ok("store m 8192 3");
    CHECK(t.b->cmd("load m 8192") == "3");
    t.b->ok("punch f 0 1048576");
    t.b->kill(SIGKILL);
    CHECK(t.m.all_gone());
    auto s = t.m.volume().space();
    CHECK(s.blocks_used == t.m.volume().stat("/f").blocks);
    CHECK(s.blocks_deferred == 0);
    t.m.check_clean();
  }
}

TEST_CASE("interleaving 27: a client stopped at each step of a fault delays nobody", "[robust][gated]") {
  for (const char* point : {"fault:event_read", "fault:resolved", "fault:before_install", "fault:vma_done"}) {
    CAPTURE(point);
    Two t("1048576", false);
    pause::Gate gate(point);
    t.a->ok("async 1 store m 8192 1");
    REQUIRE(gate.wait_arrived());
    t.a->stop();
    gate.release();
    t.b->ok("punch f 0 1048576");
    t.b->ok("store m 8192 3");
    t.b->ok("truncate f 4096");
    t.b->ok("truncate f 1048576");
    CHECK(t.m.p1_violations(*t.a) == 0);
    t.b->ok("store m 8193 4");
    t.a->kill(SIGCONT);
    CHECK(t.a->cmd("wait 1") == "ok");
    CHECK(t.a->cmd("load m 8193") == "4");
    t.m.check_clean();
  }
}

#endif

TEST_CASE("interleaving 27: a client stopped with VMA commands outstanding delays nobody", "[robust]") {
  Two t("67108864", false, 65536);
  CHECK(t.a->cmd("load m 0") == "0");
  t.a->stop();
  for (int i = 0; i < 50; ++i) {
    t.b->ok("fill m 0 1048576 5");
    t.b->ok("punch f 0 1048576");
  }
  t.a->kill(SIGCONT);
  t.a->ok("check m 0 1048576 0");
  t.m.check_clean();
}

TEST_CASE("interleaving 22: a forked child keeps the mapping, is revoked too, and never reads silent zeros", "[robust]") {
  Two t;
  CHECK(t.a->cmd("load m 8192") == "17");
  auto child = t.a->fork();
  CHECK(child->cmd("load m 8192") == "17");
  child->ok("store m 8192 18");
  CHECK(t.a->cmd("load m 8192") == "18");
  CHECK(t.b->cmd("load m 8192") == "18");
  t.b->ok("truncate f 4096");
  CHECK(child->cmd("load m 8192") == "sigbus");
  CHECK(t.a->cmd("load m 8192") == "sigbus");
  CHECK(t.m.p1_violations(*child) == 0);
  t.b->ok("truncate f 1048576");
  CHECK(child->cmd("load m 8192") == "0");
  t.a->kill(SIGKILL);  // the child outlives its parent
  child->ok("store m 8192 4");
  CHECK(t.b->cmd("load m 8192") == "4");
}

TEST_CASE("interleaving 24: a storm of faults and a loop of punches both make progress", "[robust]") {
  Two t;
  uint64_t faults = t.m.server().faults().counters().faults.get();
  t.a->ok("async 1 touch m 0 1048576 4096");
  for (int round = 0; round < 100; ++round) {
    t.b->ok("punch f 0 1048576");
    if (t.a->cmd("poll 1") == "done") {
      t.a->cmd("wait 1");
      t.a->ok("async 1 fill m 0 1048576 1");
    }
  }
  t.a->cmd("wait 1");
  CHECK(t.m.server().faults().counters().faults.get() > faults);
  CHECK(t.m.volume().counters().invalidates.get() >= 100);
  t.m.check_clean();
}

TEST_CASE("interleaving 26: an error between revoke and free: the file is intact, nobody waits, nothing leaks", "[robust][gated]") {
  Two t;
  {
    FailingSys sys;
    sys.punch = 1;
    CHECK(t.b->cmd("punch f 8192 4096").substr(0, 5) == "err 5");
  }
  CHECK(t.m.inode("/f")->entries.waiters() == 0);
  CHECK(t.m.volume().space().blocks_deferred == 1);  // neither the file's nor free
  CHECK(t.a->cmd("load m 4096") == "17");
  CHECK(t.a->cmd("load m 8192") == "0");
  t.b->ok("punch f 12288 4096");  // tries again what was left
  CHECK(t.m.volume().space().blocks_deferred == 0);
  t.m.check_clean();
}

#ifdef PMFS_PAUSE_POINTS

TEST_CASE("interleaving 26: the error comes when some blocks are revoked already, and a fault waits for the others", "[robust][gated]") {
  Two t("1048576", false);
  for (const char* off : {"0", "16384", "8192"}) CHECK(t.b->cmd(std::string("write f ") + off + " 4096 17") == "4096");
  FailingSys sys;
  {
    pause::Gate gate("invalidate:before_zap");
    t.b->ok("async 1 punch f 0 1048576");
    REQUIRE(gate.wait_arrived());
    t.a->ok("async 1 load m 16384");
    CHECK(t.a->cmd("poll 1") == "pending");
    sys.punch_after = 1;
    sys.punch = 1;
    gate.release();
    CHECK(t.b->cmd("wait 1").substr(0, 5) == "err 5");
  }
  CHECK(t.a->cmd("wait 1") == "0");
  CHECK(t.m.inode("/f")->entries.waiters() == 0);
  t.a->ok("check m 0 1048576 0");
  CHECK(t.m.p1_violations(*t.a) == 0);
  t.b->ok("punch f 0 1048576");
  CHECK(t.m.volume().space().blocks_deferred == 0);
  CHECK(t.m.volume().space().blocks_used == 0);
  t.m.check_clean();
}

TEST_CASE("interleaving 23: a store between the look at a page's mark and its flush: the mark stays", "[robust][gated]") {
  const bool lost = GENERATE(false, true);  // what would come of it if the marks were lost
  CAPTURE(lost);
  Two t;
  t.a->ok("store m 8192 1");
  auto i = t.m.inode("/f");
  {
    pause::Gate gate("fsync:before_flush");
    t.b->ok("async 1 fsync f");
    REQUIRE(gate.wait_arrived());
    t.a->ok("async 1 store m 8193 2");  // its PTE is read-only by now: it waits for the flush
    for (int k = 0; k < 4000 && i->entries.waiters() == 0; ++k) ::usleep(1000);
    CHECK(t.a->cmd("poll 1") == "pending");
    gate.release();
    t.b->ok("wait 1");
    t.a->ok("wait 1");
  }
  i->entries.drain({Pgoff(2), Pgoff(3)}, Wait::kBlock);  // the mark comes when the fault is over
  CHECK(i->entries.peek(Pgoff(2)).dirty());
  if (lost) {
    exclusion::LockedEntry e = i->entries.lock(Pgoff(2), 0, Wait::kBlock);
    REQUIRE(e);
    const auto flags = e.value.flags() & ~(exclusion::Entry::kDirty | exclusion::Entry::kShown);
    i->entries.unlock(e, exclusion::Entry::make(e.value.pfn(), e.value.order(), flags));
  }
  t.b->ok("collapse f 0 4096");
  const bool right = t.a->cmd("load m 4097") == "2" && t.a->cmd("load m 8192") == "17";
  CHECK(right == !lost);
}

#endif

TEST_CASE("interleaving 28: EAGAIN while the address space changes: the fault is tried again", "[robust][gated]") {
  Two t;
  FailingSys sys;
  sys.uffd_eagain = 3;
  CHECK(t.a->cmd("load m 8192") == "17");
  CHECK(sys.uffd_eagain == 0);
  CHECK(t.m.server().faults().counters().retries.get() >= 3);
}

#ifdef PMFS_PAUSE_POINTS
TEST_CASE("interleaving 28: the second of two events on one page finds a PTE (EEXIST) and must wake its thread", "[robust]") {
  Two t;
  CHECK(t.a->cmd("load m 0") == "17");  // the VMA is in place
  t.b->ok("punch f 131072 4096");
  pause::Gate gate("fault:event_read");
  t.a->ok("async 1 load m 131072");
  REQUIRE(gate.wait_arrived());
  t.a->ok("async 2 load m 131073");
  CHECK(t.a->cmd("wait 2") == "0");
  gate.release();
  CHECK(t.a->cmd("wait 1") == "0");
}

TEST_CASE("interleaving 28: an event that is stale when it is read: the mapping is gone", "[robust]") {
  Two t;
  pause::Gate gate("fault:event_read");
  t.a->ok("async 1 load m 8192");
  REQUIRE(gate.wait_arrived());
  t.a->ok("unmap m");
  gate.release();
  std::string v = t.a->cmd("wait 1");
  CHECK((v == "sigsegv" || v == "sigbus"));
  t.a->ok("map f n 0 65536");
  CHECK(t.a->cmd("load n 8192") == "17");
}
#endif

TEST_CASE("interleaving 28: a dead manager stalls faults, it does not turn pages into zeros", "[robust]") {
  Two t;
  CHECK(t.a->cmd("load m 8192") == "17");
  t.m.stop();
  CHECK(t.a->cmd("load m 8192") == "17");  // its PTE is still there
  t.a->ok("async 1 load m 524288");
  CHECK_FALSE(t.a->has_reply(std::chrono::milliseconds(1)));
  CHECK(t.a->cmd("poll 1") == "pending");
  t.a->kill(SIGKILL);
  t.m.start();
  auto c = t.m.client();
  c->ok("open f /f rw");
  CHECK(c->cmd("read f 0 1048576").find("uniform 17") != std::string::npos);
}

TEST_CASE("interleaving 29: a full volume: SIGBUS for the store that needs a block, and life after a truncate", "[robust]") {
  Two t("4194304", false, 4096);
  t.b->ok("open g /g rwc");
  uint64_t written = std::stoull(t.b->cmd("write g 0 33554432 1"));  // short
  CHECK(written < 33554432);
  CHECK(t.b->cmd("write g " + std::to_string(written) + " 4096 1").substr(0, 6) == "err 28");
  CHECK(t.a->cmd("store m 0 1") == "sigbus");
  CHECK(t.a->cmd("store m 8192 1") == "sigbus");
  CHECK(t.b->cmd("write f 0 4096 1").substr(0, 6) == "err 28");
  t.b->ok("truncate g 4096");  // freeing works on a full volume
  t.a->ok("store m 0 1");
  t.a->ok("store m 8192 2");
  CHECK(t.b->cmd("load m 8192") == "2");
  t.b->ok("unlink /g");
  t.m.check_clean();
}

TEST_CASE("interleaving 29: a full metadata pool: SIGBUS; truncate and unlink work, and then the store does", "[robust]") {
  Two t("33554432", false);
  MountedVolume& v = t.m.volume();
  t.a->ok("store m 0 5");
  std::vector<std::string> names;
  auto until_full = [](auto&& f) {
    for (uint64_t n = 0; n < 1'000'000; ++n) {
      try {
        f(n);
      } catch (const Error& e) {
        return e.err();
      }
    }
    return 0;
  };
  REQUIRE(until_full([&](uint64_t n) {
            v.store().create(kRootIno, "n" + std::to_string(n), 0600, 0, 0);
            names.push_back("/n" + std::to_string(n));
          }) == ENOSPC);
  const Ino filler = v.lookup(names[0]);
  REQUIRE(until_full([&](uint64_t n) {  // nodes fill what inodes don't fit into
            const Extent e = v.store().reserve(Pfn(0), 1, 1);
            try {
              v.store().commit_extent(filler, {Pgoff(2 * n), e.first, 1, false}, std::nullopt);
            } catch (...) {
              v.store().unreserve(e);
              throw;
            }
          }) == ENOSPC);
  REQUIRE(v.store().space().blocks_free > 100);  // it is not the blocks
  // Here and there in the file, so that each store is an extent of its own, until one would need a new index node.
  std::string at, said = "ok";
  for (uint64_t k = 1; k < 4096 && said == "ok"; ++k) {
    at = std::to_string(k * 1297 % 4096 * 8192);
    said = t.a->cmd("store m " + at + " 1");
  }
  REQUIRE(said == "sigbus");
  CHECK(t.b->cmd("write f " + at + " 4096 1").substr(0, 6) == "err 28");
  CHECK(t.b->cmd("load m 0") == "5");
  t.b->ok("truncate f 8192");
  t.b->ok("truncate f 33554432");
  for (const std::string& n : names) v.unlink(n);
  t.a->ok("store m " + at + " 6");
  CHECK(t.b->cmd("load m " + at) == "6");
  CHECK(t.b->cmd("load m 0") == "5");
  t.m.check_clean();
}

TEST_CASE("interleaving 29: a full tmpfs: SIGBUS, not the manager's death", "[robust]") {
  Two t("1048576", false);
  {
    FailingSys sys;
    sys.full = 1000;
    CHECK(t.a->cmd("store m 0 1") == "sigbus");
    CHECK(t.b->cmd("write f 65536 4096 1").substr(0, 6) == "err 28");
  }
  t.b->ok("punch f 0 1048576");  // says that space was freed
  t.a->ok("store m 0 1");
  CHECK(t.b->cmd("load m 0") == "1");
  t.m.check_clean();
}
