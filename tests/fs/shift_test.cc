// Collapse, insert, seek and copy on a mounted volume without clients; files as large as they get.
#include <catch2/catch.hpp>

#include <algorithm>
#include <random>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/fs/inode_ref.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_dir.h"

using namespace pmfs;
using test::error_of;

namespace {

constexpr uint64_t kPage = kBlockSize;

struct Fixture {
  test::TempDir dir;
  std::unique_ptr<MountedVolume> v;
  explicit Fixture(uint64_t blocks = 8192) {
    format_volume(dir / "vol", {blocks, true, false});
    mount();
  }
  void mount() {
    v.reset();
    v = std::make_unique<MountedVolume>(dir / "vol", VolumeOptions{});
  }
  InodeRef open(const char* p) { return {*v, v->open(p, O_RDWR | O_CREAT, 0644, 0, 0)}; }
  void check_clean() {
    auto findings = v->store().check();
    for (auto& f : findings) UNSCOPED_INFO(f);
    REQUIRE(findings.empty());
    auto s = v->space();
    REQUIRE(s.blocks_total == s.blocks_used + s.blocks_free + s.blocks_reserved + s.blocks_deferred);
  }
};

std::vector<uint8_t> read(MountedVolume& v, Inode& i, uint64_t off, size_t n) {
  std::vector<uint8_t> out(n);
  out.resize(v.read(i, std::as_writable_bytes(std::span(out)), off));
  return out;
}

void write(MountedVolume& v, Inode& i, uint64_t off, size_t n, uint8_t value) {
  std::vector<std::byte> in(n, std::byte{value});
  size_t put = v.write(i, in, off);
  REQUIRE(put == n);
}

}  // namespace

TEST_CASE("collapse and insert agree with a plain array, with writes, holes and unwritten pages in between") {
  Fixture f(16384);
  InodeRef i = f.open("/a");
  std::vector<uint8_t> model;
  std::mt19937_64 rng(4);
  for (int step = 0; step < 500; ++step) {
    CAPTURE(step);
    const uint64_t at = rng() % 200 * kPage, n = (1 + rng() % 12) * kPage;
    const auto value = static_cast<uint8_t>(1 + rng() % 255);
    switch (rng() % 6) {
      case 0: {
        const uint64_t off = at + rng() % kPage, len = 1 + rng() % 30000;
        write(*f.v, *i, off, len, value);
        if (model.size() < off + len) model.resize(off + len);
        std::fill_n(model.begin() + static_cast<long>(off), len, value);
        break;
      }
      case 1:
        f.v->punch(*i, at, n);
        for (uint64_t k = at; k < std::min<uint64_t>(at + n, model.size()); ++k) model[k] = 0;
        break;
      case 2:
        f.v->preallocate(*i, at, n, false);
        model.resize(std::max<size_t>(model.size(), at + n));
        break;
      case 3: {
        const bool fits = at + n < model.size();
        CHECK(error_of([&] { f.v->collapse(*i, at, n); }) == (fits ? 0 : EINVAL));
        if (fits) model.erase(model.begin() + static_cast<long>(at), model.begin() + static_cast<long>(at + n));
        break;
      }
      default: {
        const bool fits = at < model.size() && model.size() < 2 << 20;
        if (model.size() >= 2 << 20) break;
        CHECK(error_of([&] { f.v->insert(*i, at, n); }) == (fits ? 0 : EINVAL));
        if (fits) model.insert(model.begin() + static_cast<long>(at), n, 0);
      }
    }
    REQUIRE(i->i_size == model.size());
    REQUIRE(read(*f.v, *i, 0, model.size() + 1) == model);
    if (step % 100 == 99) f.check_clean();
  }
  i = {};
  f.mount();
  i = f.open("/a");
  CHECK(read(*f.v, *i, 0, model.size() + 1) == model);
}

TEST_CASE("what collapse and insert refuse changes nothing") {
  Fixture f;
  InodeRef i = f.open("/a");
  write(*f.v, *i, 0, 10 * kPage + 5, 1);
  auto refused = [&](int err, auto&& op) {
    CHECK(error_of(op) == err);
    CHECK(i->i_size == 10 * kPage + 5);
  };
  refused(EINVAL, [&] { f.v->collapse(*i, 1, kPage); });
  refused(EINVAL, [&] { f.v->collapse(*i, 0, kPage + 1); });
  refused(EINVAL, [&] { f.v->collapse(*i, 0, 0); });
  refused(EINVAL, [&] { f.v->collapse(*i, 0, 11 * kPage); });
  refused(EINVAL, [&] { f.v->collapse(*i, 11 * kPage, kPage); });
  refused(EINVAL, [&] { f.v->collapse(*i, kPage, ~uint64_t{4095}); });
  refused(EINVAL, [&] { f.v->insert(*i, 100, kPage); });
  refused(EINVAL, [&] { f.v->insert(*i, 11 * kPage, kPage); });
  refused(EFBIG, [&] { f.v->insert(*i, 0, kMaxFileBytes & ~(kPage - 1)); });
  f.check_clean();
}

TEST_CASE("a file reaches to 8 EiB - 1, sparse; data and holes are found there") {
  Fixture f;
  InodeRef i = f.open("/a");
  f.v->truncate(*i, kMaxFileBytes);
  write(*f.v, *i, kMaxFileBytes - 3, 3, 7);
  CHECK(read(*f.v, *i, kMaxFileBytes - 4, 100) == std::vector<uint8_t>{0, 7, 7, 7});
  CHECK(f.v->space().blocks_used == 1);
  CHECK(error_of([&] { write(*f.v, *i, kMaxFileBytes - 3, 4, 7); }) == EFBIG);
  CHECK(error_of([&] { f.v->truncate(*i, kMaxFileBytes + 1); }) == EFBIG);
  CHECK(f.v->seek(*i, 0, MountedVolume::Seek::kData) == (kMaxFileBytes & ~(kPage - 1)));
  CHECK(f.v->seek(*i, kMaxFileBytes - 1, MountedVolume::Seek::kHole) == kMaxFileBytes);
  CHECK(error_of([&] { f.v->insert(*i, 0, kPage); }) == EFBIG);
  i = {};
  f.mount();
  i = f.open("/a");
  CHECK(i->i_size == kMaxFileBytes);
  CHECK(read(*f.v, *i, kMaxFileBytes - 1, 1) == std::vector<uint8_t>{7});
  f.v->truncate(*i, kMaxFileBytes & ~(kPage - 1));
  CHECK(error_of([&] { f.v->seek(*i, 0, MountedVolume::Seek::kData); }) == ENXIO);
  f.check_clean();
}

TEST_CASE("SEEK_DATA and SEEK_HOLE: written is data, holes and unwritten are not") {
  Fixture f;
  InodeRef i = f.open("/a");
  write(*f.v, *i, 2 * kPage, 2 * kPage, 1);
  f.v->preallocate(*i, 4 * kPage, 2 * kPage, false);
  write(*f.v, *i, 8 * kPage, 10, 1);
  auto data = [&](uint64_t at) { return f.v->seek(*i, at, MountedVolume::Seek::kData); };
  auto hole = [&](uint64_t at) { return f.v->seek(*i, at, MountedVolume::Seek::kHole); };
  CHECK(data(0) == 2 * kPage);
  CHECK(data(2 * kPage + 7) == 2 * kPage + 7);
  CHECK(data(4 * kPage) == 8 * kPage);
  CHECK(hole(0) == 0);
  CHECK(hole(2 * kPage + 1) == 4 * kPage);
  CHECK(hole(5 * kPage) == 5 * kPage);
  CHECK(hole(8 * kPage) == 8 * kPage + 10);  // the end of the file
  CHECK(error_of([&] { data(8 * kPage + 10); }) == ENXIO);
  CHECK(error_of([&] { hole(8 * kPage + 10); }) == ENXIO);
}

TEST_CASE("copy_range copies data, keeps holes, and takes away what was there") {
  Fixture f(16384);
  InodeRef a = f.open("/a"), b = f.open("/b");
  write(*f.v, *a, 100, 3'000'000, 3);
  f.v->punch(*a, 1 << 20, 1 << 20);
  f.v->truncate(*a, 4'000'000);
  write(*f.v, *b, 0, 5000, 9);
  write(*f.v, *b, 2'000'000, 100, 9);
  CHECK(f.v->copy_range(*a, 50, *b, 1000, 10'000'000) == 4'000'000 - 50);
  CHECK(b->i_size == 4'000'950);
  auto head = read(*f.v, *b, 0, 1000);
  CHECK(std::all_of(head.begin(), head.end(), [](uint8_t x) { return x == 9; }));
  CHECK(read(*f.v, *b, 1000, 4'000'000) == read(*f.v, *a, 50, 4'000'000));
  CHECK(f.v->stat("/b").blocks <= f.v->stat("/a").blocks + 4);  // the hole is one
  CHECK(f.v->copy_range(*a, 4'000'000, *b, 0, 10) == 0);
  CHECK(error_of([&] { f.v->copy_range(*a, 0, *a, 10, 11); }) == EINVAL);
  CHECK(f.v->copy_range(*a, 0, *a, 3'500'000, 100) == 100);
  CHECK(error_of([&] { f.v->copy_range(*a, 0, *b, kMaxFileBytes - 5, 10); }) == EFBIG);
  f.check_clean();
}

TEST_CASE("after an unclean end: pages that a client of the dead manager may have mapped are copied, or not moved") {
  Fixture f;
  {
    InodeRef i = f.open("/a");
    write(*f.v, *i, 0, 8 * kPage, 5);
  }
  auto pfn = [&] { return f.v->store().extents(f.v->lookup("/a"), {Pgoff(0), kEndOfFile}, 1)[0].pfn; };
  auto before = pfn();
  SECTION("a clean one") {
    f.mount();
    InodeRef i = f.open("/a");
    f.v->insert(*i, 0, kPage);
    CHECK(pfn() == before);
  }
  SECTION("an unclean one") {
    f.v.reset();
    const bool lives = GENERATE(true, false), comes_back = GENERATE(true, false);
    const int fd = ::open((f.dir / "vol" / "clients").c_str(), O_RDWR | O_CLOEXEC);
    REQUIRE(fd >= 0);
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_start = 4711;
    lock.l_len = 1;
    if (lives) REQUIRE(::fcntl(fd, F_OFD_SETLK, &lock) == 0);
    if (pid_t pid = ::fork(); pid == 0) {  // a manager that dies
      MountedVolume v(f.dir / "vol", {});
      ::_exit(0);
    } else {
      int status = 1;
      REQUIRE(::waitpid(pid, &status, 0) == pid);
      REQUIRE(status == 0);
    }
    f.mount();
    InodeRef i = f.open("/a");
    CHECK(f.v->strangers() == (lives ? 1 : 0));
    if (lives) CHECK(error_of([&] { f.v->insert(*i, 0, kPage); }) == EBUSY);
    if (comes_back) i->foreign_ptes.fetch_add(1);
    ::close(fd);  // its lock goes with it
    CHECK(f.v->strangers() == 0);
    f.v->insert(*i, 0, kPage);
    CHECK((pfn() != before) == comes_back);
    CHECK(read(*f.v, *i, kPage, kPage) == std::vector<uint8_t>(kPage, 5));
    f.check_clean();
  }
}
