// A shmem region: present and zero when handed out, ENOSPC instead of SIGBUS, zap takes every PTE.
#include <catch2/catch.hpp>

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/sys.h"
#include "pmfs/region/region.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_dir.h"

using namespace pmfs;
using test::error_of;

namespace {

constexpr uint64_t kBlocks = 256;

struct Fixture {
  test::TempDir dir;
  std::filesystem::path path = dir.path() / "data";
  std::unique_ptr<Region> region;
  explicit Fixture(RegionOptions o = {}, bool reserve = false) {
    create_shmem_region(path, kBlocks, reserve);
    region = open_shmem_region(path, kBlocks, o);
  }
  bool all(Pfn p, uint8_t value) {
    for (uint64_t i = 0; i < kBlockSize; ++i)
      if (region->address(p)[i] != std::byte{value}) return false;
    return true;
  }
};

bool present(const void* p) {
  unsigned char v = 0;
  ::mincore(const_cast<void*>(p), kBlockSize, &v);
  return v & 1;
}

}  // namespace

TEST_CASE("a zapped block reads as zero when it is handed out again") {
  Fixture f;
  f.region->make_zero({Pfn(3), 2});
  f.region->hand_out({Pfn(3), 2});
  std::memset(f.region->address(Pfn(3)), 0xAA, 2 * kBlockSize);
  f.region->zap({Pfn(3), 2});
  CHECK_FALSE(present(f.region->address(Pfn(3))));
  f.region->make_zero({Pfn(3), 2});
  CHECK(f.all(Pfn(3), 0));
  CHECK(f.all(Pfn(4), 0));
}

TEST_CASE("a block of unknown contents is zeroed, one that was zeroed is not touched again") {
  Fixture f;
  std::memset(f.region->address(Pfn(1)), 0xAA, kBlockSize);  // as an unclean manager left it
  f.region->make_zero({Pfn(1), 1});
  CHECK(f.all(Pfn(1), 0));

  std::memset(f.region->address(Pfn(1)), 0xAA, kBlockSize);  // nobody may: it was not handed out
  f.region->make_zero({Pfn(1), 1});
  CHECK(f.all(Pfn(1), 0xAA));

  Fixture clean(RegionOptions{true, false});
  std::memset(clean.region->address(Pfn(1)), 0xAA, kBlockSize);  // zero, the options say: but not taken on trust
  clean.region->make_zero({Pfn(1), 1});
  CHECK(clean.all(Pfn(1), 0));
}

TEST_CASE("a zap takes the PTE of another process, even a stopped one") {
  Fixture f;
  f.region->make_zero({Pfn(0), 1});
  int to_parent[2], to_child[2];
  REQUIRE(::pipe(to_parent) == 0);
  REQUIRE(::pipe(to_child) == 0);
  pid_t pid = ::fork();
  if (pid == 0) {
    int fd = ::open(f.path.c_str(), O_RDWR);
    auto* p = static_cast<volatile char*>(::mmap(nullptr, kBlockSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    p[0] = 42;
    char c = 1;
    if (::write(to_parent[1], &c, 1) != 1 || ::read(to_child[0], &c, 1) != 1) ::_exit(9);
    ::_exit(p[0] == 0 ? 0 : 1);  // 42 would be the old page
  }
  char c;
  REQUIRE(::read(to_parent[0], &c, 1) == 1);
  ::kill(pid, SIGSTOP);
  CHECK(f.region->address(Pfn(0))[0] == std::byte{42});
  f.region->zap({Pfn(0), 1});
  ::kill(pid, SIGCONT);
  REQUIRE(::write(to_child[1], &c, 1) == 1);
  int status = 0;
  ::waitpid(pid, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("canaries: a block written while it was free is noticed, an untouched one is not") {
  Fixture f(RegionOptions{false, true});
  f.region->make_zero({Pfn(5), 2});
  f.region->hand_out({Pfn(5), 2});
  f.region->zap({Pfn(5), 2});
  f.region->address(Pfn(6))[100] = std::byte{1};
  f.region->make_zero({Pfn(5), 1});
  CHECK(f.region->canary_errors() == 0);
  f.region->make_zero({Pfn(6), 1});
  CHECK(f.region->canary_errors() == 1);
  CHECK(f.region->bad_canary() == Pfn(6));
  CHECK(f.all(Pfn(6), 0));
}

TEST_CASE("a full tmpfs is ENOSPC") {
  class Full final : public Sys {
    int populate_write(void*, size_t) override { return EFAULT; }
    int write_at(int, const void*, size_t, uint64_t) override { return ENOSPC; }
  } full;
  Fixture f;
  set_sys(&full);
  int err = error_of([&] { f.region->make_zero({Pfn(0), 1}); });
  test::TempDir dir;
  int create = error_of([&] { create_shmem_region(dir.path() / "data", kBlocks, true); });
  set_sys(nullptr);
  CHECK(err == ENOSPC);
  CHECK(create == ENOSPC);
  CHECK_FALSE(std::filesystem::exists(dir.path() / "data"));  // nothing half-made is left
}

TEST_CASE("a region grows while it is in use; its addresses stay, the new blocks read as zero") {
  Fixture f;
  std::byte* before = f.region->address(Pfn(0));
  f.region->make_zero({Pfn(3), 1});
  f.region->address(Pfn(3))[7] = std::byte{9};
  for (bool reserve : {false, true}) {
    const uint64_t had = f.region->blocks(), now = had + 100;
    f.region->grow(now, reserve);
    CHECK(f.region->blocks() == now);
    CHECK(std::filesystem::file_size(f.path) == now * kBlockSize);
    f.region->make_zero({Pfn(now - 2), 2});
    CHECK(f.all(Pfn(now - 1), 0));
    f.region->address(Pfn(now - 1))[5] = std::byte{1};
    f.region->zap({Pfn(now - 1), 1});
  }
  CHECK(f.region->address(Pfn(0)) == before);
  CHECK(f.region->address(Pfn(3))[7] == std::byte{9});
  CHECK(error_of([&] { f.region->grow(f.region->room() + 1, false); }) == EFBIG);
  const uint64_t blocks = f.region->blocks();
  f.region.reset();
  CHECK(error_of([&] { open_shmem_region(f.path, blocks - 100, {}); }) == EUCLEAN);  // longer for no known reason
  CHECK(std::filesystem::file_size(f.path) == blocks * kBlockSize);
  RegionOptions o;
  o.growing_to = blocks;
  f.region = open_shmem_region(f.path, blocks - 100, o);
  CHECK(std::filesystem::file_size(f.path) == (blocks - 100) * kBlockSize);
}

TEST_CASE("foreign, truncated and busy regions are refused") {
  Fixture f;
  CHECK(error_of([&] { open_shmem_region(f.path, kBlocks, {}); }) == EBUSY);
  f.region.reset();
  CHECK(error_of([&] { open_shmem_region(f.path, kBlocks + 1, {}); }) == EUCLEAN);
  CHECK(error_of([&] { open_shmem_region(f.dir.path() / "none", kBlocks, {}); }) == ENOENT);
  CHECK(error_of([&] { open_shmem_region(f.dir.path(), kBlocks, {}); }) != 0);
  CHECK(error_of([&] { create_shmem_region(f.path, kBlocks, false); }) == EEXIST);
  CHECK(error_of([&] { open_shmem_region("/etc/hostname", kBlocks, {}); }) != 0);
}

TEST_CASE("the granularity says that it is forced on tmpfs") {
  Fixture f;
  CHECK(f.region->granularity().find("forced") != std::string_view::npos);
  CHECK(f.region->gated());
  char text[] = "hello";
  f.region->make_zero({Pfn(0), 1});
  f.region->memcpy_nodrain(f.region->address(Pfn(0)), text, sizeof text);
  f.region->drain();
  CHECK(std::memcmp(f.region->address(Pfn(0)), text, sizeof text) == 0);
}
