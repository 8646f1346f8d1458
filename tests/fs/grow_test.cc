// grow: more space while the volume is in use; all or nothing when it fails or the manager dies in the middle.
#include <catch2/catch.hpp>

#include <algorithm>
#include <thread>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/base/sys.h"
#include "pmfs/fs/inode_ref.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_dir.h"

using namespace pmfs;
using pmfs::test::error_of;

namespace {

constexpr uint64_t kBefore = 8192;

struct Fixture {
  test::TempDir dir;
  std::filesystem::path path = dir.path() / "vol";
  std::unique_ptr<MountedVolume> v;
  explicit Fixture(bool sparse) {
    format_volume(path, {kBefore, sparse, false});
    mount();
  }
  void mount() {
    v.reset();
    v = std::make_unique<MountedVolume>(path, VolumeOptions{});
  }
  InodeRef open(const char* p) { return {*v, v->open(p, O_RDWR | O_CREAT, 0644, 1, 2)}; }
  uint64_t file_blocks() { return std::filesystem::file_size(path / "data") / kBlockSize; }
  // Writes until nothing fits; what fitted.
  uint64_t fill(const char* p, int value) {
    InodeRef i = open(p);
    std::vector<std::byte> chunk(1 << 20, static_cast<std::byte>(value));
    uint64_t done = 0;
    try {
      for (;;) done += v->write(*i, chunk, done);
    } catch (const Error& e) {
      CHECK(e.err() == ENOSPC);
    }
    return i->i_size.load();
  }
  bool holds(const char* p, uint64_t n, int value) {
    InodeRef i = open(p);
    std::vector<std::byte> all(n);
    return v->read(*i, all, 0) == n &&
           std::all_of(all.begin(), all.end(), [&](std::byte b) { return b == static_cast<std::byte>(value); });
  }
};

TEST_CASE("grow: a full volume has room again; what was there stays; the size is remembered") {
  Fixture f(GENERATE(true, false));
  const uint64_t first = f.fill("/a", 1);
  CHECK(first > (kBefore - 600) * kBlockSize);
  const uint64_t blocks = GENERATE(kBefore + 1, uint64_t{20'000}, uint64_t{70'000});  // one more, one group, three
  f.v->grow(blocks);
  CHECK(f.v->space().blocks_total == blocks);
  CHECK(f.file_blocks() == blocks);
  CHECK(f.v->store().check().empty());
  const uint64_t second = f.fill("/b", 2);
  CHECK(second <= (blocks - kBefore + 600) * kBlockSize);
  if (blocks > kBefore + 1) CHECK(second > (blocks - kBefore - 600) * kBlockSize);
  for (int k = 0; k < 2; ++k) {
    CHECK(f.holds("/a", first, 1));
    CHECK(f.holds("/b", second, 2));
    CHECK(f.v->store().check().empty());
    f.mount();
    CHECK(f.v->space().blocks_total == blocks);
  }
  f.v->unlink("/a");
  f.v->unlink("/b");
  CHECK(f.v->space().blocks_used == 0);
}

TEST_CASE("grow: what can't be is refused, and nothing has changed") {
  Fixture f(false);
  class Full final : public Sys {
    int allocate(int, uint64_t, uint64_t) override { return ENOSPC; }
  } full;
  CHECK(error_of([&] { f.v->grow(kBefore); }) == EINVAL);
  CHECK(error_of([&] { f.v->grow(kBefore - 1); }) == EINVAL);
  CHECK(error_of([&] { f.v->grow(f.v->region().room() + 1); }) == EFBIG);
  set_sys(&full);
  int err = error_of([&] { f.v->grow(kBefore * 2); });
  set_sys(nullptr);
  CHECK(err == ENOSPC);
  CHECK(f.v->space().blocks_total == kBefore);
  CHECK(f.file_blocks() == kBefore);
  CHECK(f.v->store().check().empty());
  f.mount();
  f.v->grow(kBefore * 2);
  CHECK(f.v->space().blocks_total == kBefore * 2);
}

#ifdef PMFS_PAUSE_POINTS
TEST_CASE("grow: a manager that dies in the middle leaves the old size, which the next one puts right") {
  Fixture f(true);
  const uint64_t size = f.fill("/a", 1);
  f.v.reset();
  const char* where = GENERATE("grow:begun", "grow:file");
  pid_t pid = ::fork();
  if (pid == 0) {
    pause::Gate gate(where);
    std::thread grower([&] { (new MountedVolume(f.path, {}))->grow(kBefore * 2); });
    ::_exit(gate.wait_arrived() ? 7 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  REQUIRE(WEXITSTATUS(status) == 7);
  CHECK(f.file_blocks() == (std::string(where) == "grow:file" ? kBefore * 2 : kBefore));
  f.mount();
  CHECK(f.v->space().blocks_total == kBefore);
  CHECK(f.file_blocks() == kBefore);
  CHECK(f.holds("/a", size, 1));
  CHECK(f.v->store().check().empty());
  f.v->grow(kBefore * 2);
  CHECK(f.v->space().blocks_total == kBefore * 2);
}
#endif

}  // namespace
