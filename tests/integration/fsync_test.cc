// fsync flushes what was stored to since the last one: pages are marked by the fault of their first store, and lose the mark
// when they have been flushed and no PTE lets a store by.
#include "tests/integration/fixture.h"

#include <cerrno>

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "pmfs/base/pause.h"
#include "pmfs/base/sys.h"
#include "tests/support/error_of.h"

using namespace pmfs;
using namespace pmfs::test;

namespace {

// A file of `pages` pages with data in all of them, which two clients have mapped and not touched yet.
struct Shared {
  Manager m;
  std::unique_ptr<ClientProcess> a, b;
  std::shared_ptr<Inode> i;
  explicit Shared(uint64_t pages) : m(with_pagers()), a(m.client()), b(m.client()) {
    const std::string bytes = std::to_string(pages * kBlockSize);
    for (auto* c : {a.get(), b.get()}) {
      c->ok("open f /f rwc");
      c->ok("truncate f " + bytes);
      c->ok("map f m 0 " + bytes);
    }
    CHECK(b->cmd("write f 0 " + bytes + " 17") == bytes);
    i = m.inode("/f");
  }
  // A fault's mark comes with the unlocking, when its store may have returned.
  uint64_t dirty() const {
    i->entries.drain({Pgoff(0), kEndOfFile}, Wait::kBlock);
    uint64_t n = 0;
    i->entries.for_each({Pgoff(0), kEndOfFile}, [&](Pgoff, exclusion::Entry e) { n += e.dirty() ? e.pages() : 0; });
    return n;
  }
  bool dirty(uint64_t page) const {
    i->entries.drain({Pgoff(page), Pgoff(page + 1)}, Wait::kBlock);
    return i->entries.peek(Pgoff(page)).dirty();
  }
};

std::string at(uint64_t page) { return std::to_string(page * kBlockSize); }

class NoProtection final : public Sys {  // as while the client's address space is changing
 public:
  NoProtection() { set_sys(this); }
  ~NoProtection() override { set_sys(nullptr); }
  int uffd_ioctl(int fd, unsigned long request, void* arg) override {
    if (request == UFFDIO_WRITEPROTECT && (static_cast<uffdio_writeprotect*>(arg)->mode & UFFDIO_WRITEPROTECT_MODE_WP)) return EAGAIN;
    return Sys::uffd_ioctl(fd, request, arg);
  }
};

}  // namespace

TEST_CASE("fsync: loads make nothing dirty, stores do, and what was flushed is clean until the next store", "[fsync][gated]") {
  Shared t(64);
  for (uint64_t p = 0; p < 64; ++p) CHECK(t.a->cmd("load m " + at(p)) == "17");
  CHECK(t.dirty() == 0);
  t.a->ok("store m " + at(5) + " 1");
  CHECK(t.dirty(5));
  t.b->ok("fsync f");
  CHECK(t.dirty() == 0);
  for (uint64_t p = 0; p < 64; ++p) CHECK(t.a->cmd("load m " + at(p)) == (p == 5 ? "1" : "17"));
  CHECK(t.dirty() == 0);
  // Each client's PTEs were taken back to read-only, not only those of who asked.
  t.a->ok("store m " + at(5) + " 2");
  CHECK(t.dirty(5));
  t.a->ok("fsync f");
  CHECK(t.dirty() == 0);
  t.b->ok("store m " + at(9) + " 3");
  CHECK(t.dirty(9));
  CHECK(t.a->cmd("load m " + at(5)) == "2");
  CHECK(t.a->cmd("load m " + at(9)) == "3");
  CHECK(t.m.p1_violations(*t.a) == 0);
}

TEST_CASE("fsync: one that does not wait flushes nothing: it says that there is something, or all is flushed", "[fsync][gated]") {
  Shared t(16);
  const auto now = [&] { return error_of([&] { t.m.volume().fsync(*t.i, Wait::kNoWait); }); };
  CHECK(now() == 0);
  CHECK(t.a->cmd("load m " + at(3)) == "17");
  t.a->ok("store m " + at(3) + " 1");
  CHECK(now() == EAGAIN);
  CHECK(t.dirty(3));
  t.a->ok("unmap m");
  CHECK(now() == EAGAIN);  // the mark stays when the mapping has gone
  t.b->ok("unmap m");
  t.b->ok("fsync f");
  CHECK(now() == 0);
}

TEST_CASE("fsync: a page that can't be protected keeps its mark, since stores to it are not seen", "[fsync][gated]") {
  Shared t(16);
  t.a->ok("store m 0 1");
  {
    NoProtection now;
    t.b->ok("fsync f");
    CHECK(t.dirty(0));
    t.a->ok("store m 1 2");  // by the PTE that is there
  }
  CHECK(t.dirty(0));
  t.b->ok("fsync f");
  CHECK_FALSE(t.dirty(0));
}

TEST_CASE("fsync: 2 MiB entries", "[fsync][gated]") {
  Shared t(3 * kHugeBlocks);
  t.a->ok("fill m 0 " + at(3 * kHugeBlocks) + " 4");
  CHECK(t.dirty() > 2 * kHugeBlocks);
  t.a->ok("fsync f");
  CHECK(t.dirty() == 0);
  t.a->ok("store m " + at(kHugeBlocks + 3) + " 5");
  CHECK(t.dirty(kHugeBlocks + 3));
  t.a->ok("fsync f");
  CHECK(t.dirty() == 0);
  CHECK(t.a->cmd("load m " + at(kHugeBlocks + 3)) == "5");
  CHECK(t.b->cmd("load m " + at(kHugeBlocks + 4)) == "4");
}

#ifdef PMFS_PAUSE_POINTS
TEST_CASE("fsync: a store whose fault has installed its PTE, and not marked the page yet, is waited for", "[fsync][gated]") {
  Shared t(16);
  CHECK(t.a->cmd("load m " + at(3)) == "17");  // the VMA is in place: the fault of the store installs at once
  t.i->entries.drain({Pgoff(0), kEndOfFile}, Wait::kBlock);
  pause::Gate gate("fault:installed");
  t.a->ok("async 1 store m " + at(3) + " 1");
  REQUIRE(gate.wait_arrived());
  t.b->ok("async 1 fsync f");
  for (int k = 0; k < 4000 && t.b->cmd("poll 1") == "pending" && t.i->entries.waiters() == 0; ++k) ::usleep(1000);
  CHECK(t.b->cmd("poll 1") == "pending");
  CHECK(error_of([&] { t.m.volume().fsync(*t.i, Wait::kNoWait); }) == EAGAIN);
  gate.release();
  CHECK(t.b->cmd("wait 1") == "ok");
  CHECK(t.a->cmd("wait 1") == "ok");
  CHECK_FALSE(t.dirty(3));  // flushed
  CHECK(t.a->cmd("load m " + at(3)) == "1");
}
#endif
