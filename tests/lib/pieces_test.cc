// Mappings in pieces: unmapped, protected, moved and advised in parts; replaced and placed at fixed addresses.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <thread>

#include "pmfs/base/pause.h"
#include "pmfs/pmfs.h"
#include "pmfs/pmfs.hpp"
#include "tests/lib/real_manager.h"
#include "tests/support/pte.h"
#include "tests/support/touch.h"

using namespace pmfs;
using test::touch;

namespace {

constexpr size_t kPage = 4096;

// The sanitizers' runtimes map memory when they like, and the kernel takes the highest gap that is large enough: that is not to
// be what a test has just unmapped and is about to map again. So there are gaps of some pages above everything mapped later, and
// a wall below a mapping, without which what is unmapped at its start is one with the large gap below it.
class OtherGaps {
 public:
  OtherGaps() {
    void* p = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(p != MAP_FAILED);
    p_ = static_cast<char*>(p);
    for (size_t at = 0; at < kBytes; at += kStep) munmap(p_ + at + kPage, kStep - kPage);
  }
  ~OtherGaps() {
    for (size_t at = 0; at < kBytes; at += kStep) munmap(p_ + at, kPage);
    if (wall_ != MAP_FAILED) munmap(wall_, kPage);
  }
  OtherGaps(const OtherGaps&) = delete;
  OtherGaps& operator=(const OtherGaps&) = delete;
  void wall_below(char* mapping) {  // failed: somebody is there already
    wall_ = mmap(mapping - kPage, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  }

 private:
  static constexpr size_t kBytes = size_t{1} << 21, kStep = 16 * kPage;  // less than any mapping takes while it is placed
  char* p_;
  void* wall_ = MAP_FAILED;
};

// A file of 64 pages, page k full of k + 1, and all of it mapped with every page touched.
struct Mapped {
  test::RealManager m;
  OtherGaps gaps;
  pmfs_volume* v;
  int fd;
  char* p;
  static constexpr size_t kPages = 64;
  Mapped() : v(pmfs_connect(m.path().c_str())) {
    REQUIRE(v != nullptr);
    fd = pmfs_open(v, "/f", O_RDWR | O_CREAT, 0644);
    for (size_t k = 0; k < kPages; ++k) {
      const std::vector<char> page(kPage, static_cast<char>(k + 1));
      REQUIRE(pmfs_append(fd, page.data(), kPage) == kPage);
    }
    p = map(nullptr, MAP_SHARED);
    gaps.wall_below(p);
    for (size_t k = 0; k < kPages; ++k) CHECK(at(k) == static_cast<char>(k + 1));
  }
  ~Mapped() {
    pmfs_munmap(p, kPages * kPage);
    pmfs_close(fd);
    pmfs_disconnect(v);
  }
  char* map(void* addr, int flags, int prot = PROT_READ | PROT_WRITE, size_t pages = kPages, off_t offset = 0) const {
    void* q = pmfs_mmap(addr, pages * kPage, prot, flags, fd, offset);
    INFO(pmfs_strerror());
    REQUIRE(q != MAP_FAILED);
    return static_cast<char*>(q);
  }
  char& at(size_t page) const { return p[page * kPage]; }
  MountedVolume& volume() const { return m.server->volume(); }
  // PTEs of this process on blocks that are nobody's.
  size_t violations() const {
    size_t bad = 0;
    for (const test::PresentPte& pte : test::present_ptes(getpid(), m.path() + "/data"))
      if (volume().owners()->get(pte.pfn).ino == Ino{}) ++bad;
    return bad;
  }
  // The manager, in this process, has some too: only those of our addresses.
  size_t ptes(const char* from) const {
    size_t n = 0;
    for (const test::PresentPte& pte : test::present_ptes(getpid(), m.path() + "/data"))
      if (pte.va - reinterpret_cast<uintptr_t>(from) < 2 * kPages * kPage) ++n;
    return n;
  }
};

bool is_mapped(const void* p) {
  unsigned char in;
  return mincore(const_cast<void*>(p), kPage, &in) == 0;
}

}  // namespace

TEST_CASE("pieces of a mapping are unmapped; the rest stays as it is, and a truncate takes every piece's PTEs") {
  Mapped f;
  CHECK(pmfs_munmap(f.p + 10 * kPage, 5 * kPage) == 0);
  CHECK(pmfs_munmap(f.p + 40 * kPage, kPage) == 0);
  CHECK(pmfs_munmap(f.p, kPage) == 0);
  CHECK_FALSE(is_mapped(f.p));
  CHECK_FALSE(is_mapped(f.p + 10 * kPage));
  CHECK_FALSE(is_mapped(f.p + 14 * kPage));
  const size_t before = f.ptes(f.p);
  CHECK(before == 64 - 7);  // what is left has its PTEs still
  for (size_t k : {1, 9, 15, 39, 41, 63}) {
    CHECK(f.at(k) == static_cast<char>(k + 1));
    f.at(k) = 'x';
  }
  CHECK(f.ptes(f.p) == before);
  CHECK(pmfs_ftruncate(f.fd, 20 * kPage) == 0);
  CHECK(f.ptes(f.p) == 14);  // 1-9, 15-19
  CHECK(f.violations() == 0);
  CHECK(touch(&f.at(20)) == SIGBUS);
  CHECK(touch(&f.at(41)) == SIGBUS);
  CHECK(pmfs_ftruncate(f.fd, 64 * kPage) == 0);
  CHECK(touch(&f.at(41), true) == 0);
  CHECK(f.at(41) == 0);
  // Over the holes and what was never ours.
  CHECK(pmfs_munmap(f.p, 64 * kPage) == 0);
  for (size_t k = 0; k < 64; ++k) CHECK_FALSE(is_mapped(&f.at(k)));
  CHECK(f.ptes(f.p) == 0);
}

TEST_CASE("a piece that was unmapped is another mapping's place") {
  Mapped f;
  CHECK(pmfs_munmap(f.p + 8 * kPage, 8 * kPage) == 0);
  char* other = f.map(f.p + 8 * kPage, MAP_SHARED | MAP_FIXED_NOREPLACE, PROT_READ | PROT_WRITE, 8, 32 * kPage);
  CHECK(other == f.p + 8 * kPage);
  CHECK(f.at(8) == 33);
  CHECK(f.at(7) == 8);
  CHECK(f.at(16) == 17);
  CHECK(pmfs_mmap(f.p, kPage, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, f.fd, 0) == MAP_FAILED);
  CHECK(errno == EEXIST);
  // Over the middle of two mappings, offsets exchanged.
  f.map(f.p + 12 * kPage, MAP_SHARED | MAP_FIXED, PROT_READ, 8, 0);
  CHECK(f.at(11) == 36);
  CHECK(f.at(12) == 1);
  CHECK(f.at(19) == 8);
  CHECK(f.at(20) == 21);
  CHECK(touch(&f.at(12), true) == SIGSEGV);
  f.at(0) = 77;
  CHECK(f.at(12) == 77);
  CHECK(f.violations() == 0);
}

TEST_CASE("memory of others is replaced by MAP_FIXED, and a mapping by memory of others") {
  Mapped f;
  auto* mine = static_cast<char*>(mmap(nullptr, 16 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  memset(mine, 'm', 16 * kPage);
  f.map(mine + 4 * kPage, MAP_SHARED | MAP_FIXED, PROT_READ | PROT_WRITE, 4, 0);
  CHECK(mine[3 * kPage] == 'm');
  CHECK(mine[4 * kPage] == 1);
  CHECK(mine[7 * kPage] == 4);
  CHECK(mine[8 * kPage] == 'm');
  CHECK(pmfs_munmap(mine, 16 * kPage) == 0);  // only what is pmfs'
  CHECK(mine[3 * kPage] == 'm');
  CHECK_FALSE(is_mapped(mine + 4 * kPage));
  munmap(mine, 16 * kPage);
}

TEST_CASE("pieces have their own protection, which VMAs placed later have too") {
  Mapped f;
  CHECK(pmfs_mprotect(f.p + 4 * kPage, 4 * kPage, PROT_READ) == 0);
  CHECK(pmfs_mprotect(f.p + 6 * kPage, 4 * kPage, PROT_NONE) == 0);
  CHECK(touch(&f.at(3), true) == 0);
  CHECK(touch(&f.at(4)) == 0);
  CHECK(touch(&f.at(4), true) == SIGSEGV);
  CHECK(touch(&f.at(6)) == SIGSEGV);
  CHECK(touch(&f.at(9)) == SIGSEGV);
  CHECK(touch(&f.at(10), true) == 0);
  // Other blocks come: the agent places new VMAs over the pieces.
  CHECK(pmfs_fallocate(f.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 64 * kPage) == 0);
  const std::vector<char> page(kPage, 'n');
  for (size_t k = 0; k < 64; k += 2) CHECK(pmfs_pwrite(f.fd, page.data(), kPage, static_cast<off_t>(k * kPage)) == kPage);
  CHECK(f.at(4) == 'n');
  CHECK(touch(&f.at(4), true) == SIGSEGV);
  CHECK(touch(&f.at(6)) == SIGSEGV);
  CHECK(pmfs_mprotect(f.p, 64 * kPage, PROT_READ | PROT_WRITE) == 0);
  f.at(4) = f.at(6) = f.at(7) = 'w';
  char c = 0;
  CHECK(pmfs_pread(f.fd, &c, 1, 7 * kPage) == 1);
  CHECK(c == 'w');
  CHECK(pmfs_mprotect(f.p, kPage, PROT_READ | PROT_EXEC) == -1);
  CHECK(errno == EACCES);
  const int ro = pmfs_open(f.v, "/f", O_RDONLY, 0);
  auto* q = static_cast<char*>(pmfs_mmap(nullptr, kPage, PROT_READ, MAP_SHARED, ro, 0));
  REQUIRE(q != MAP_FAILED);
  CHECK(pmfs_mprotect(q, kPage, PROT_READ | PROT_WRITE) == -1);
  CHECK(errno == EACCES);
  CHECK(touch(q, true) == SIGSEGV);
  CHECK(pmfs_munmap(q, kPage) == 0);
  CHECK(pmfs_close(ro) == 0);
}

TEST_CASE("mremap: shrinks, grows where there is room, moves, and duplicates") {
  Mapped f;
  CHECK(pmfs_mremap(f.p, 64 * kPage, 16 * kPage, 0, nullptr) == f.p);
  CHECK_FALSE(is_mapped(f.p + 16 * kPage));
  CHECK(pmfs_mremap(f.p, 16 * kPage, 32 * kPage, 0, nullptr) == f.p);
  CHECK(f.at(31) == 32);
  void* wall = mmap(f.p + 40 * kPage, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  REQUIRE(wall == f.p + 40 * kPage);
  CHECK(pmfs_mremap(f.p, 32 * kPage, 64 * kPage, 0, nullptr) == MAP_FAILED);
  CHECK(errno == ENOMEM);
  f.at(30) = 'k';
  auto* moved = static_cast<char*>(pmfs_mremap(f.p, 32 * kPage, 64 * kPage, MREMAP_MAYMOVE, nullptr));
  REQUIRE(moved != MAP_FAILED);
  CHECK(moved != f.p);
  CHECK_FALSE(is_mapped(f.p));
  CHECK(moved[30 * kPage] == 'k');
  CHECK(moved[63 * kPage] == 64);
  // To a fixed place, over something; from the middle.
  auto* to = static_cast<char*>(pmfs_mremap(moved + 8 * kPage, 8 * kPage, 8 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, wall));
  CHECK(to == wall);
  CHECK(to[0] == 9);
  CHECK_FALSE(is_mapped(moved + 8 * kPage));
  CHECK(moved[16 * kPage] == 17);
  auto* twin = static_cast<char*>(pmfs_mremap(to, 0, 8 * kPage, MREMAP_MAYMOVE, nullptr));
  REQUIRE(twin != MAP_FAILED);
  twin[0] = 't';
  CHECK(to[0] == 't');
  CHECK(pmfs_mremap(moved, 16 * kPage, 8 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, twin) == MAP_FAILED);
  CHECK(errno == EFAULT);  // a hole in it
  CHECK(pmfs_mremap(moved, kPage, kPage, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, nullptr) == MAP_FAILED);
  CHECK(errno == EINVAL);
  CHECK(f.violations() == 0);
  for (char* q : {moved, to, twin}) CHECK(pmfs_munmap(q, 64 * kPage) == 0);
}

TEST_CASE("msync is durable and moves mtime, as a store and munmap do; loads of a read-only mapping don't") {
  Mapped f;
  const timespec old[2] = {{1000, 0}, {1000, 0}};
  struct stat st;
  auto mtime = [&] {
    CHECK(pmfs_fstat(f.fd, &st) == 0);
    return st.st_mtim.tv_sec;
  };
  f.at(3) = 's';
  CHECK(pmfs_futimens(f.fd, old) == 0);
  CHECK(mtime() == 1000);
  usleep(5000);  // mtime is as coarse as a tick
  CHECK(pmfs_msync(f.p + 3 * kPage, kPage, MS_SYNC) == 0);
  CHECK(mtime() > 1000);
  CHECK(pmfs_msync(f.p, kPage, MS_SYNC | MS_ASYNC) == -1);
  CHECK(errno == EINVAL);
  CHECK(pmfs_munmap(f.p, 64 * kPage) == 0);
  CHECK(pmfs_futimens(f.fd, old) == 0);
  char* q = f.map(nullptr, MAP_SHARED, PROT_READ);
  CHECK(q[3 * kPage] == 's');
  usleep(5000);
  CHECK(pmfs_msync(q, 64 * kPage, MS_SYNC) == 0);
  CHECK(pmfs_munmap(q, 64 * kPage) == 0);
  CHECK(mtime() == 1000);
  q = f.map(nullptr, MAP_SHARED);
  q[0] = 1;
  CHECK(pmfs_munmap(q, 64 * kPage) == 0);
  CHECK(mtime() > 1000);
}

TEST_CASE("madvise: REMOVE makes a hole, DONTNEED only costs faults") {
  Mapped f;
  CHECK(pmfs_madvise(f.p + 2 * kPage, 4 * kPage, MADV_REMOVE) == 0);
  CHECK(pmfs_seek(f.fd, 0, SEEK_HOLE) == 2 * kPage);
  CHECK(f.at(2) == 0);
  CHECK(f.at(6) == 7);
  f.at(7) = 'd';
  CHECK(pmfs_madvise(f.p, 64 * kPage, MADV_DONTNEED) == 0);
  CHECK(f.ptes(f.p) == 0);
  CHECK(f.at(7) == 'd');
  CHECK(pmfs_madvise(f.p, 64 * kPage, MADV_WILLNEED) == 0);
  CHECK(pmfs_madvise(f.p, 64 * kPage, -1) == -1);
  CHECK(errno == EINVAL);
}

TEST_CASE("MAP_POPULATE installs what there is; MAP_SYNC is granted, unknown flags are not") {
  Mapped f;
  CHECK(pmfs_munmap(f.p, 64 * kPage) == 0);
  char* q = f.map(nullptr, MAP_SHARED | MAP_POPULATE, PROT_READ | PROT_WRITE, 100);  // beyond the end, too
  CHECK(f.ptes(q) == 64);
  CHECK(pmfs_munmap(q, 100 * kPage) == 0);
  q = f.map(nullptr, MAP_SHARED_VALIDATE | MAP_SYNC);
  CHECK(pmfs_munmap(q, 64 * kPage) == 0);
  CHECK(pmfs_mmap(nullptr, kPage, PROT_READ, MAP_SHARED_VALIDATE | 1 << 26, f.fd, 0) == MAP_FAILED);
  CHECK(errno == EOPNOTSUPP);
}

TEST_CASE("a child has the pieces, each as it is, but for those it is not to have") {
  Mapped f;
  CHECK(pmfs_munmap(f.p + 8 * kPage, 8 * kPage) == 0);
  CHECK(pmfs_mprotect(f.p + 20 * kPage, 4 * kPage, PROT_READ) == 0);
  CHECK(pmfs_madvise(f.p + 40 * kPage, 4 * kPage, MADV_DONTFORK) == 0);
  CHECK(pmfs_close(pmfs_open_inode(f.v, 1, 999, O_RDONLY)) == -1);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(60);
    int code = 0;
    if (f.at(0) != 1 || f.at(30) != 31) code = 1;
    f.at(16) = 'c';
    if (is_mapped(&f.at(8))) code = 2;
    if (touch(&f.at(20), true) != SIGSEGV) code = 3;
    if (is_mapped(&f.at(40))) code = 4;
    if (touch(&f.at(44), true) != 0) code = 5;
    _exit(code);
  }
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(f.at(16) == 'c');
  CHECK(f.at(40) == 41);
}

TEST_CASE("pieces are cut and joined by many threads beside stores and truncates") {
  Mapped f;
  std::atomic<bool> stop{false};
  std::thread storing([&] {
    while (!stop.load())
      for (size_t k = 48; k < 64; ++k) ++f.at(k);
  });
  std::thread truncating([&] {
    while (!stop.load()) {
      pmfs_ftruncate(f.fd, 64 * kPage);
      pmfs_fallocate(f.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 20 * kPage, 40 * kPage);
    }
  });
  std::vector<std::thread> cutting;
  for (size_t t = 0; t < 3; ++t)
    cutting.emplace_back([&, t] {
      char* mine = f.p + t * 16 * kPage;
      for (size_t n = 0; n < 100; ++n) {
        const size_t first = n % 13, pages = 1 + n % 3;
        if (pmfs_munmap(mine + first * kPage, pages * kPage) != 0) abort();
        const auto off = static_cast<off_t>((t * 16 + first) * kPage);
        void* q = pmfs_mmap(mine + first * kPage, pages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, f.fd, off);
        if (q != mine + first * kPage) abort();
        mine[first * kPage] = 'z';
        if (pmfs_mprotect(mine + 4 * kPage, 2 * kPage, n % 2 ? PROT_READ : PROT_READ | PROT_WRITE) != 0) abort();
      }
      if (pmfs_mprotect(mine, 16 * kPage, PROT_READ | PROT_WRITE) != 0) abort();
    });
  for (auto& t : cutting) t.join();
  stop = true;
  storing.join();
  truncating.join();
  CHECK(f.violations() == 0);
  for (size_t k = 0; k < 20; ++k) {
    f.at(k) = 'e';
    char c = 0;
    CHECK(pmfs_pread(f.fd, &c, 1, static_cast<off_t>(k * kPage)) == 1);
    CHECK(c == 'e');
  }
}

#ifdef PMFS_PAUSE_POINTS

namespace {

// A load in a thread of its own; done() within a bound.
struct Loader {
  std::atomic<int> value{-1};
  std::thread thread;
  explicit Loader(const char* p) : thread([this, p] { value = *static_cast<const volatile char*>(p); }) {}
  ~Loader() { thread.join(); }
  bool done() const {
    for (int i = 0; i < 5000 && value.load() < 0; ++i) usleep(1000);
    return value.load() >= 0;
  }
};

}  // namespace

TEST_CASE("a mapping is cut while a fault in it is about to install: the fault goes on in the part") {
  for (const char* point : {"fault:event_read", "fault:before_install", "fault:installed"}) {
    INFO(point);
    Mapped f;
    CHECK(pmfs_ftruncate(f.fd, 128 * kPage) == 0);
    CHECK(pmfs_madvise(f.p, 64 * kPage, MADV_DONTNEED) == 0);
    pause::Gate gate(point);
    Loader loader(&f.at(4));
    REQUIRE(gate.wait_arrived());
    CHECK(pmfs_munmap(f.p + 8 * kPage, 4 * kPage) == 0);
    // An invalidate of other pages, meanwhile: behind the mapping, for how many of its pages come with a fault is the
    // fault-around's to decide.
    CHECK(pmfs_ftruncate(f.fd, 100 * kPage) == 0);
    gate.release();
    CHECK(loader.done());
    CHECK(loader.value == 5);
    CHECK(f.violations() == 0);
  }
}

// Two threads: one unmaps the last mapping of a closed file, and the manager has forgotten it; before the thread hears of that the
// other one opens and maps the file.
TEST_CASE("a file is mapped while its former mapping goes: behind the former end there is no SIGBUS when it grows") {
  test::RealManager m;
  Volume v(m.path());
  auto former = std::make_unique<Mapping>([&] {
    File f = v.open("/f", O_RDWR | O_CREAT);
    f.truncate(kPage);
    return f.map(0, kPage);
  }());
  pause::Gate forgotten("request:executed");
  std::thread unmaps([&] { former.reset(); });
  CHECK(forgotten.wait_arrived());
  File f = v.open("/f", O_RDWR);
  Mapping map = f.map(0, 4 * kPage);
  forgotten.release();
  unmaps.join();
  f.truncate(4 * kPage);
  const auto* p = reinterpret_cast<const volatile char*>(map.bytes().data());
  CHECK(touch(p + 3 * kPage) == 0);
  f.truncate(kPage);
  CHECK(touch(p + 3 * kPage) == SIGBUS);
}
#endif
