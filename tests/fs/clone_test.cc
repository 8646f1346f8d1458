// Reflinks on a mounted volume: shared until written to, whatever is done to either side.
#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <random>

#include <fcntl.h>

#include "pmfs/base/error.h"
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
  void write(Inode& i, uint64_t off, size_t n, uint8_t value) {
    std::vector<std::byte> in(n, std::byte{value});
    size_t put = v->write(i, in, off);
    REQUIRE(put == n);
  }
  std::vector<uint8_t> read(Inode& i, uint64_t off, size_t n) {
    std::vector<uint8_t> out(n);
    out.resize(v->read(i, std::as_writable_bytes(std::span(out)), off));
    return out;
  }
  void check_clean() {
    auto findings = v->store().check();
    for (auto& f : findings) UNSCOPED_INFO(f);
    REQUIRE(findings.empty());
    auto s = v->space();
    REQUIRE(s.blocks_total == s.blocks_used + s.blocks_free + s.blocks_reserved + s.blocks_deferred);
  }
};

}  // namespace

TEST_CASE("a clone takes no blocks; a write to either side takes one and the other side keeps the old bytes") {
  Fixture f;
  InodeRef a = f.open("/a"), b = f.open("/b");
  f.write(*a, 0, 100 * kPage, 1);
  f.v->clone_range(*a, 0, *b, 0, 0);
  CHECK(b->i_size == 100 * kPage);
  CHECK(f.v->space().blocks_used == 100);
  CHECK(f.v->stat("/b").blocks == 100);
  f.write(*b, 5 * kPage + 10, 1, 2);
  CHECK(f.v->space().blocks_used == 101);
  f.write(*a, 50 * kPage, kPage, 3);
  CHECK(f.v->space().blocks_used == 102);
  auto x = f.read(*b, 5 * kPage, kPage);
  CHECK(x[9] == 1);
  CHECK(x[10] == 2);
  CHECK(f.read(*a, 5 * kPage, kPage) == std::vector<uint8_t>(kPage, 1));
  CHECK(f.read(*b, 50 * kPage, kPage) == std::vector<uint8_t>(kPage, 1));
  f.v->unlink("/a");
  a = {};
  CHECK(f.v->space().blocks_used == 100);
  f.write(*b, 7 * kPage, 1, 4);  // its own by now: no copy
  CHECK(f.v->space().blocks_used == 100);
  f.check_clean();
}

TEST_CASE("what clone_range refuses") {
  Fixture f;
  InodeRef a = f.open("/a"), b = f.open("/b");
  f.write(*a, 0, 3 * kPage + 100, 1);
  f.write(*b, 0, 10 * kPage, 2);
  CHECK(error_of([&] { f.v->clone_range(*a, 1, *b, 0, kPage); }) == EINVAL);
  CHECK(error_of([&] { f.v->clone_range(*a, 0, *b, 1, kPage); }) == EINVAL);
  CHECK(error_of([&] { f.v->clone_range(*a, 0, *b, 0, 100); }) == EINVAL);
  CHECK(error_of([&] { f.v->clone_range(*a, 0, *b, 0, 0); }) == EINVAL);  // its end is in the middle of b
  CHECK(error_of([&] { f.v->clone_range(*a, 0, *b, 0, 4 * kPage); }) == EINVAL);
  CHECK(error_of([&] { f.v->clone_range(*a, 0, *a, kPage, 2 * kPage); }) == EINVAL);
  CHECK(f.read(*b, 0, 10 * kPage) == std::vector<uint8_t>(10 * kPage, 2));
  f.v->clone_range(*a, 0, *b, 7 * kPage, 0);
  CHECK(b->i_size == 10 * kPage + 100);
  f.v->clone_range(*a, 0, *a, 3 * kPage, 2 * kPage);
  CHECK(a->i_size == 5 * kPage);
  f.check_clean();
}

TEST_CASE("whatever is done to files that share blocks, each agrees with its own array") {
  Fixture f(32768);
  std::array<InodeRef, 3> file{f.open("/a"), f.open("/b"), f.open("/c")};
  std::array<std::vector<uint8_t>, 3> model;
  std::mt19937_64 rng(9);
  for (int step = 0; step < 900; ++step) {
    CAPTURE(step);
    const size_t k = rng() % 3, to = rng() % 3;
    Inode& i = *file[k];
    auto& m = model[k];
    const uint64_t at = rng() % 100 * kPage, n = (1 + rng() % 20) * kPage, odd = at + rng() % kPage;
    auto clear = [&](uint64_t from, uint64_t end) {
      for (uint64_t x = from; x < std::min<uint64_t>(end, m.size()); ++x) m[x] = 0;
    };
    switch (rng() % 9) {
      case 0:
      case 1: {
        const auto value = static_cast<uint8_t>(1 + rng() % 255);
        const uint64_t len = 1 + rng() % 30000;
        f.write(i, odd, len, value);
        if (m.size() < odd + len) m.resize(odd + len);
        std::fill_n(m.begin() + static_cast<long>(odd), len, value);
        break;
      }
      case 2:
        f.v->punch(i, odd, n);
        clear(odd, odd + n);
        break;
      case 3:
        f.v->zero_range(i, odd, n);
        clear(odd, odd + n);
        break;
      case 4:
        f.v->truncate(i, odd);
        m.resize(odd);
        break;
      case 5:
        f.v->preallocate(i, at, n, true);
        break;
      case 6: {
        const bool fits = at + n < m.size();
        CHECK(error_of([&] { f.v->collapse(i, at, n); }) == (fits ? 0 : EINVAL));
        if (fits) m.erase(m.begin() + static_cast<long>(at), m.begin() + static_cast<long>(at + n));
        break;
      }
      default: {
        const uint64_t target = rng() % 100 * kPage;
        if (at + n > m.size() || (k == to && at < target + n && target < at + n)) break;
        f.v->clone_range(i, at, *file[to], target, n);
        std::vector<uint8_t> part(m.begin() + static_cast<long>(at), m.begin() + static_cast<long>(at + n));
        auto& t = model[to];
        if (t.size() < target + n) t.resize(target + n);
        std::copy(part.begin(), part.end(), t.begin() + static_cast<long>(target));
      }
    }
    for (size_t x = 0; x < 3; ++x) {
      REQUIRE(file[x]->i_size == model[x].size());
      REQUIRE(f.read(*file[x], 0, model[x].size() + 1) == model[x]);
    }
    if (step % 100 == 99) f.check_clean();
  }
  for (auto& r : file) r = {};
  f.mount();
  REQUIRE(f.read(*f.open("/b"), 0, model[1].size() + 1) == model[1]);
  for (const char* p : {"/a", "/b", "/c"}) f.v->unlink(p);
  CHECK(f.v->space().blocks_used == 0);
  f.check_clean();
}

TEST_CASE("a volume with no block left: shared files are read, removed, and not written to") {
  Fixture f(4096);
  InodeRef a = f.open("/a"), b = f.open("/b"), c = f.open("/c");
  f.write(*a, 0, 100 * kPage, 1);
  f.v->clone_range(*a, 0, *b, 0, 0);
  int err = 0;
  for (uint64_t p = 0; err == 0; ++p)
    err = error_of([&] { f.v->write(*c, std::vector<std::byte>(kPage, std::byte{9}), p * kPage); });
  CHECK(err == ENOSPC);
  CHECK(error_of([&] { f.v->write(*b, std::vector<std::byte>(1), 0); }) == ENOSPC);
  CHECK(f.read(*b, 0, kPage) == std::vector<uint8_t>(kPage, 1));
  f.v->truncate(*a, 0);
  f.write(*b, 0, 1, 2);  // the last owner needs no block
  CHECK(f.read(*b, 0, 1)[0] == 2);
  f.check_clean();
}
