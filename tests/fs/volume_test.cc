// A mounted volume without clients: data, holes, sizes, names, recovery, space.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <thread>
#include <tuple>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/sys.h"
#include "pmfs/fs/block_run.h"
#include "pmfs/fs/inode_ref.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_dir.h"

using namespace pmfs;
using test::error_of;

namespace {

struct Fixture {
  test::TempDir dir;
  std::filesystem::path path = dir.path() / "vol";
  std::unique_ptr<MountedVolume> v;
  explicit Fixture(uint64_t blocks = 8192, VolumeOptions o = {}) {
    format_volume(path, {blocks, true, false});
    mount(o);
  }
  void mount(VolumeOptions o = {}) {
    v.reset();
    v = std::make_unique<MountedVolume>(path, o);
  }
  InodeRef open(const char* p, int flags = O_RDWR | O_CREAT) { return {*v, v->open(p, flags, 0644, 0, 0)}; }
  std::vector<std::byte> read(Inode& i, uint64_t off, size_t n) {
    std::vector<std::byte> out(n);
    out.resize(v->read(i, out, off));
    return out;
  }
  size_t write(Inode& i, uint64_t off, size_t n, uint8_t value) {
    std::vector<std::byte> in(n, std::byte{value});
    return v->write(i, in, off);
  }
  void check_clean() {
    auto findings = v->store().check();
    for (auto& f : findings) UNSCOPED_INFO(f);
    REQUIRE(findings.empty());
  }
};

bool uniform(const std::vector<std::byte>& b, uint8_t value) {
  return std::all_of(b.begin(), b.end(), [&](std::byte x) { return x == std::byte{value}; });
}

}  // namespace

TEST_CASE("what is written is read, across pages, and holes are zero") {
  Fixture f;
  InodeRef i = f.open("/a");
  CHECK(f.write(*i, 5000, 10000, 3) == 10000);
  CHECK(i->i_size == 15000);
  CHECK(uniform(f.read(*i, 0, 5000), 0));
  CHECK(uniform(f.read(*i, 5000, 20000), 3));
  CHECK(f.read(*i, 5000, 20000).size() == 10000);
  CHECK(f.v->append(*i, std::vector<std::byte>(10, std::byte{4})) == 15000);
  CHECK(uniform(f.read(*i, 15000, 10), 4));
  f.check_clean();
}

TEST_CASE("whose a block is, is known of files that this mount has not faulted in, until the block is free") {
  Fixture f;
  VolumeOptions traced;
  traced.trace = true;
  Pfn block;
  {
    InodeRef i = f.open("/a");
    f.write(*i, 0, kBlockSize, 3);
    block = f.v->store().lookup_extent(i->ino, Pgoff(0))->pfn;
  }
  f.mount(traced);
  CHECK(f.v->owners()->get(block).ino == Ino{});  // nobody has the file open: nothing can be taken from it
  InodeRef i = f.open("/a");
  CHECK(f.v->owners()->get(block).ino == i->ino);
  CHECK(f.v->owners()->get(block).pgoff == Pgoff(0));
  f.v->truncate(*i, 0);
  f.v->space();  // settles
  CHECK(f.v->owners()->get(block).ino == Ino{});
}

TEST_CASE("an append that finds a page busy when it has begun is an append all the same") {
  Fixture f;
  InodeRef i = f.open("/a");
  exclusion::LockedEntry busy = i->entries.lock(Pgoff(1), 0, Wait::kBlock);
  REQUIRE(busy);
  const std::vector<std::byte> two(2 * kBlockSize, std::byte{5});
  uint64_t at = 1;
  std::thread t([&] { at = f.v->append(*i, two, Wait::kNoWait); });
  for (int k = 0; k < 4000 && i->entries.waiters() == 0; ++k) ::usleep(1000);
  i->entries.unlock(busy, busy.value);
  t.join();
  CHECK(at == 0);
  CHECK(i->i_size == two.size());
  CHECK(uniform(f.read(*i, 0, two.size()), 5));
}

TEST_CASE("whatever is done to a file, it agrees with a plain array") {
  constexpr uint64_t kMax = 3 << 20;
  Fixture f(16384);
  InodeRef i = f.open("/a");
  std::vector<uint8_t> model;
  std::mt19937_64 rng(11);
  for (int step = 0; step < 1500; ++step) {
    CAPTURE(step);
    uint64_t off = rng() % kMax, n = 1 + rng() % 40000;
    if (rng() % 3 == 0) off &= ~uint64_t{4095};
    if (rng() % 3 == 0) n = (n + 4095) & ~uint64_t{4095};
    auto value = static_cast<uint8_t>(1 + rng() % 255);
    auto clear = [&](uint64_t from, uint64_t to) {
      for (uint64_t k = from; k < std::min<uint64_t>(to, model.size()); ++k) model[k] = 0;
    };
    switch (rng() % 8) {
      case 0:
      case 1:
      case 2:
        REQUIRE(f.write(*i, off, n, value) == n);
        if (model.size() < off + n) model.resize(off + n);
        std::fill(model.begin() + static_cast<long>(off), model.begin() + static_cast<long>(off + n), value);
        break;
      case 3:
        f.v->truncate(*i, off);
        model.resize(off);
        break;
      case 4:
        f.v->punch(*i, off, n);
        clear(off, off + n);
        break;
      case 5:
        f.v->zero_range(*i, off, n);
        clear(off, off + n);
        break;
      case 6:
        f.v->preallocate(*i, off, n, rng() % 2);
        model.resize(std::max<size_t>(model.size(), i->i_size));
        break;
      case 7: {
        auto got = f.read(*i, off, n);
        size_t expect = off < model.size() ? std::min<size_t>(n, model.size() - off) : 0;
        REQUIRE(got.size() == expect);
        REQUIRE((expect == 0 || std::memcmp(got.data(), model.data() + off, expect) == 0));
        break;
      }
    }
    REQUIRE(i->i_size == model.size());
    if (step % 100 == 0) f.check_clean();
  }
  auto all = f.read(*i, 0, model.size());
  REQUIRE(all.size() == model.size());
  CHECK((model.empty() || std::memcmp(all.data(), model.data(), model.size()) == 0));
  i = {};
  CHECK(f.v->store().space().blocks_reserved == 0);
  f.mount();  // and after a clean unmount it is all there
  i = f.open("/a", O_RDWR);
  all = f.read(*i, 0, model.size());
  CHECK((model.empty() || std::memcmp(all.data(), model.data(), model.size()) == 0));
  f.check_clean();
}

TEST_CASE("preallocated blocks are unwritten and zero, and a write turns them") {
  Fixture f;
  InodeRef i = f.open("/a");
  f.v->preallocate(*i, 0, 1 << 20, true);
  CHECK(i->i_size == 0);
  CHECK(f.v->getattr(*i).blocks == 256);
  f.v->preallocate(*i, 0, 1 << 20, false);
  CHECK(i->i_size == 1 << 20);
  CHECK(uniform(f.read(*i, 0, 1 << 20), 0));
  CHECK(f.v->store().lookup_extent(i->ino, Pgoff(3))->unwritten);
  f.write(*i, 3 * 4096 + 7, 10, 9);
  CHECK_FALSE(f.v->store().lookup_extent(i->ino, Pgoff(3))->unwritten);
  CHECK(uniform(f.read(*i, 3 * 4096, 7), 0));
  CHECK(uniform(f.read(*i, 3 * 4096 + 7, 10), 9));
  CHECK(uniform(f.read(*i, 3 * 4096 + 17, 4000), 0));
  f.check_clean();
}

TEST_CASE("a large file gets 2 MiB-aligned contiguous blocks") {
  Fixture f(16384);
  InodeRef i = f.open("/big");
  f.v->truncate(*i, 16 << 20);
  for (uint64_t off = 0; off < 16 << 20; off += 1 << 17) f.write(*i, off, 1 << 17, 1);
  auto e = f.v->store().extents(i->ino, {Pgoff(0), kEndOfFile}, 100);
  CHECK(e.size() <= 2);
  CHECK(e[0].pfn.aligned(kHugeBlocks));
}

TEST_CASE("pages touched in random order end up congruent in their 2 MiB windows") {
  Fixture f(16384);
  InodeRef i = f.open("/r");
  f.v->truncate(*i, 8 << 20);
  std::mt19937_64 rng(5);
  for (int k = 0; k < 300; ++k) f.write(*i, rng() % 2048 * 4096, 4096, 1);
  std::map<uint64_t, uint64_t> base;
  for (auto& e : f.v->store().extents(i->ino, {Pgoff(0), kEndOfFile}, 10000)) {
    for (uint64_t k = 0; k < e.count; ++k) {
      uint64_t window = (e.pgoff.v + k) / 512, b = e.pfn.v + k - (e.pgoff.v + k) % 512;
      base.emplace(window, b);
      CHECK(base[window] == b);
    }
  }
}

TEST_CASE("an unlinked file lives until its last reference goes") {
  Fixture f;
  InodeRef i = f.open("/a");
  f.write(*i, 0, 1 << 20, 5);
  InodeRef second = i;
  f.v->unlink("/a");
  CHECK(error_of([&] { f.v->stat("/a"); }) == ENOENT);
  CHECK(uniform(f.read(*i, 0, 1 << 20), 5));
  i = {};
  CHECK(uniform(f.read(*second, 0, 1 << 20), 5));
  CHECK(f.v->store().space().blocks_used == 256);
  second = {};
  CHECK(f.v->store().space().blocks_used == 0);
  CHECK(f.v->store().orphans().empty());
  f.check_clean();
}

TEST_CASE("rename over a file that is open keeps it for who has it") {
  Fixture f;
  InodeRef a = f.open("/a"), b = f.open("/b");
  f.write(*a, 0, 4096, 1);
  f.write(*b, 0, 4096, 2);
  f.v->rename("/a", "/b");
  CHECK(f.v->lookup("/b") == a->ino);
  CHECK(uniform(f.read(*b, 0, 4096), 2));
  b = {};
  CHECK(f.v->store().space().blocks_used == 1);
  f.check_clean();
}

TEST_CASE("mount finishes what a dead manager left: orphans and deferred frees") {
  Fixture f;
  f.v.reset();
  pid_t pid = ::fork();
  if (pid == 0) {  // a manager that dies half-way through a punch and with an unlinked file open
    MountedVolume v(f.path, {});
    InodeRef a(v, v.open("/a", O_RDWR | O_CREAT, 0644, 0, 0)), keep(v, v.open("/keep", O_RDWR | O_CREAT, 0644, 0, 0));
    std::vector<std::byte> data(1 << 20, std::byte{5});
    v.write(*a, data, 0);
    v.write(*keep, data, 0);
    v.unlink("/a");
    v.store().remove_extents(keep->ino, {Pgoff(0), Pgoff(10)}, std::nullopt);
    bool as_meant = v.store().space().blocks_deferred == 10 && v.store().orphans().size() == 1;
    ::_exit(as_meant ? 0 : 1);
  }
  int status = 1;
  ::waitpid(pid, &status, 0);
  REQUIRE(status == 0);
  f.mount();
  CHECK(f.v->store().space().blocks_deferred == 0);
  CHECK(f.v->store().orphans().empty());
  CHECK(f.v->store().space().blocks_used == 246);
  InodeRef keep = f.open("/keep", O_RDWR);
  CHECK(uniform(f.read(*keep, 0, 40960), 0));
  CHECK(uniform(f.read(*keep, 40960, 4096), 5));
  f.check_clean();
}

TEST_CASE("a removed or replaced directory leaves nothing behind, and the volume mounts again") {
  Fixture f;
  f.v->mkdir("/a", 0755, 0, 0);
  f.v->mkdir("/b", 0755, 0, 0);
  f.v->mkdir("/c", 0755, 0, 0);
  f.v->rmdir("/a");
  f.v->rename("/b", "/c");
  CHECK(f.v->store().orphans().empty());
  f.check_clean();
  f.mount();
  CHECK(f.v->list("/", 0, 10).size() == 1);
}

TEST_CASE("paths: walking, dots, errors") {
  Fixture f;
  f.v->mkdir("/d", 0755, 0, 0);
  f.v->mkdir("/d/e", 0755, 0, 0);
  { InodeRef i = f.open("/d/e/../x"); }
  CHECK(f.v->lookup("/d/x") == f.v->lookup("//d/./e/../x"));
  CHECK(f.v->lookup("/..") == kRootIno);
  CHECK(error_of([&] { f.v->lookup("d"); }) == EINVAL);
  CHECK(error_of([&] { f.v->lookup("/d/x/y"); }) == ENOTDIR);
  CHECK(error_of([&] { f.v->lookup("/nope/y"); }) == ENOENT);
  CHECK(error_of([&] { f.open(("/" + std::string(256, 'n')).c_str()); }) == ENAMETOOLONG);
  CHECK(error_of([&] { f.open("/d"); }) == EISDIR);
  CHECK(error_of([&] { f.open("/d/x", O_RDWR | O_CREAT | O_EXCL); }) == EEXIST);
  CHECK(error_of([&] { f.v->rmdir("/d"); }) == ENOTEMPTY);
  CHECK(error_of([&] { f.v->unlink("/"); }) == EBUSY);
  CHECK(error_of([&] { f.v->rename("/d", "/d/e/z"); }) == EINVAL);
}

TEST_CASE("offsets and lengths at the edges of 64 bits are refused, or work") {
  Fixture f;
  InodeRef i = f.open("/a");
  CHECK(error_of([&] { f.v->truncate(*i, uint64_t{1} << 63); }) == EFBIG);
  CHECK(error_of([&] { f.v->truncate(*i, ~uint64_t{0}); }) == EFBIG);
  CHECK(error_of([&] { f.v->punch(*i, ~uint64_t{0}, 1); }) == EFBIG);
  CHECK(error_of([&] { f.v->punch(*i, 1, ~uint64_t{0}); }) == EFBIG);
  CHECK(error_of([&] { f.v->punch(*i, 0, 0); }) == EINVAL);
  CHECK(error_of([&] { f.write(*i, kMaxFileBytes, 1, 1); }) == EFBIG);
  CHECK(error_of([&] { f.v->preallocate(*i, 0, kMaxFileBytes, false); }) == ENOSPC);
  f.v->truncate(*i, kMaxFileBytes);
  CHECK(f.write(*i, kMaxFileBytes - 10, 10, 7) == 10);
  CHECK(uniform(f.read(*i, kMaxFileBytes - 10, 100), 7));
  CHECK(f.read(*i, kMaxFileBytes - 10, 100).size() == 10);
  f.v->punch(*i, 0, kMaxFileBytes);
  CHECK(uniform(f.read(*i, kMaxFileBytes - 10, 10), 0));
  f.v->truncate(*i, 0);
  f.check_clean();
}

TEST_CASE("a full volume: short write, ENOSPC, and freeing works") {
  Fixture f(4096);
  InodeRef i = f.open("/a"), j = f.open("/b");
  size_t done = 0;
  while (error_of([&] { done += f.write(*i, done, 1 << 18, 1); }) == 0) {
  }
  CHECK(done > (15 << 20));
  CHECK(error_of([&] { f.write(*j, 0, 4096, 1); }) == ENOSPC);
  f.v->truncate(*i, 1 << 20);
  CHECK(f.write(*j, 0, 1 << 20, 1) == 1 << 20);
  f.v->unlink("/a");
  i = {};
  f.check_clean();
}

TEST_CASE("a volume filled to the last block and pool byte, then emptied, is as it was: the same counts, byte for byte") {
  Fixture f(4096);
  auto counts = [&] {
    meta::Space s = f.v->store().space();
    return std::tuple(s.blocks_total, s.blocks_used, s.blocks_deferred, s.blocks_reserved, s.blocks_free, s.inodes_used);
  };
  { InodeRef i = f.open("/first"); }  // directories keep the index node they once had
  f.v->unlink("/first");
  const auto before = counts();
  std::vector<std::string> names;
  // Through mappings, as a fault does: page by page in stripes, then writes, then creates until the pool is full too.
  names.push_back("/mapped");
  {
    InodeRef i = f.open("/mapped");
    f.v->truncate(*i, 64 << 20);
    CHECK(error_of([&] {
            for (uint64_t p = 0; p < 600; ++p) {
              BlockRun run = BlockRun::grab(*f.v, *i, Pgoff(p * 3), 1, Wait::kBlock);
              if (run.kind() == BlockKind::kHole) run.allocate(1);
              run.commit();
            }
          }) == 0);
  }
  for (int k = 0; k < 100; ++k) {
    names.push_back("/w" + std::to_string(k));
    InodeRef i = f.open(names.back().c_str());
    if (int e = error_of([&] { f.write(*i, 0, 200'000, 1); })) {
      CHECK(e == ENOSPC);
      break;
    }
  }
  CHECK(f.v->store().space().blocks_free < 64);
  for (int k = 0;; ++k) {
    std::string name = "/c" + std::string(240, 'x') + std::to_string(k);
    if (int e = error_of([&] { InodeRef i = f.open(name.c_str()); })) {
      CHECK(e == ENOSPC);
      break;
    }
    names.push_back(name);
  }
  CHECK(names.size() > 1000);
  for (const auto& n : names) f.v->unlink(n);
  CHECK(counts() == before);
  f.check_clean();
  f.mount();
  CHECK(counts() == before);
  f.check_clean();
}

TEST_CASE("what is reserved for one file is found for another when space is short") {
  Fixture f(4096);
  InodeRef i = f.open("/a");
  f.v->truncate(*i, 16 << 20);
  f.write(*i, 0, 4096, 1);  // reserves a 2 MiB window around it
  CHECK(f.v->store().space().blocks_reserved > 100);
  InodeRef j = f.open("/b");
  size_t done = 0;
  while (error_of([&] { done += f.write(*j, done, 1 << 18, 1); }) == 0) {
  }
  CHECK(f.v->store().space().blocks_reserved == 0);
  CHECK(f.v->store().space().blocks_free == 0);
}

TEST_CASE("a volume in use names its holder; nonsense is refused") {
  Fixture f;
  try {
    MountedVolume second(f.path, {});
    FAIL("mounted twice");
  } catch (const Error& e) {
    CHECK(e.err() == EBUSY);
    CHECK(e.message().find(std::to_string(::getpid())) != std::string::npos);
  }
  f.v.reset();
  CHECK(error_of([&] { MountedVolume x(f.dir.path() / "none", {}); }) == ENOENT);
  CHECK(error_of([&] { MountedVolume x(f.path, VolumeOptions{"nonsense"}); }) == EINVAL);
  CHECK(error_of([&] { MountedVolume x(f.path, VolumeOptions{"none", false, false, false}); }) == EINVAL);
  CHECK(error_of([&] { format_volume(f.path, {8192, true, false}); }) == EEXIST);
  CHECK(error_of([&] { format_volume(f.dir.path() / "small", {10, true, false}); }) == EINVAL);
  std::filesystem::resize_file(f.path / "data", 4096);
  CHECK(error_of([&] { MountedVolume x(f.path, {}); }) == EUCLEAN);
}
