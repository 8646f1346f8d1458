// The C++ and C API against the real manager in the same process.
#include <linux/falloc.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <thread>

#include "lib/admin.h"
#include "pmfs/pmfs.h"
#include "pmfs/pmfs.hpp"
#include "tests/lib/real_manager.h"
#include "tests/support/error_of.h"

using namespace pmfs;
using test::error_of;

namespace {

using Manager = test::RealManager;

std::vector<std::byte> pattern(size_t n, unsigned seed) {
  std::vector<std::byte> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = static_cast<std::byte>((i * 31 + i / 4096 + seed) & 255);
  return v;
}

}  // namespace

TEST_CASE("reads and writes larger than a slot, at odd offsets, are whole") {
  Manager m;
  Volume v(m.path());
  File f = v.open("/f", O_RDWR | O_CREAT);
  const auto data = pattern(1'000'003, 1);
  CHECK(f.write(data, 777) == data.size());
  CHECK(f.stat().size == 777 + data.size());
  std::vector<std::byte> back(data.size() + 100);
  CHECK(f.read(back, 777) == data.size());
  back.resize(data.size());
  CHECK(back == data);
  CHECK(f.append(pattern(10, 2)) == 777 + data.size());
  CHECK(f.read(back, uint64_t{1} << 40) == 0);
  CHECK(f.write({}, 5) == 0);
}

TEST_CASE("a mapping outlives its file and its volume") {
  Manager m;
  Mapping map;
  {
    Volume v(m.path());
    File f = v.open("/f", O_RDWR | O_CREAT);
    f.truncate(10000);
    map = f.map(0, 10000);
  }
  CHECK(map.size() == 10000);
  map.bytes()[9999] = std::byte{3};
  persist(map.data() + 9999, 1);
  std::byte b;
  CHECK(Volume(m.path()).open("/f", O_RDONLY).read({&b, 1}, 9999) == 1);
  CHECK(b == std::byte{3});
  map.unmap();
  map.unmap();  // nothing left to do
  CHECK(map.data() == nullptr);
}

TEST_CASE("addresses are congruent with file offsets modulo 2 MiB") {
  Manager m;
  Volume v(m.path());
  File f = v.open("/f", O_RDWR | O_CREAT);
  f.truncate(16 << 20);
  for (uint64_t offset : {uint64_t{0}, uint64_t{4096}, uint64_t{2} << 20, (uint64_t{5} << 20) + 8192}) {
    const Mapping map = f.map(offset, 100);
    CHECK((reinterpret_cast<uintptr_t>(map.data()) - offset) % (2 << 20) == 0);
    map.data()[99] = std::byte{1};
  }
}

TEST_CASE("more threads than slots write from mapped memory that nobody has touched yet") {
  Manager m;
  Volume v(m.path());
  File from = v.open("/from", O_RDWR | O_CREAT), to = v.open("/to", O_RDWR | O_CREAT);
  constexpr size_t kThreads = 48, kEach = 64 * 1024;
  const auto data = pattern(kThreads * kEach, 7);
  from.write(data, 0);
  Mapping map = from.map(0, data.size());
  std::vector<std::thread> threads;
  std::atomic<size_t> written{0};
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] { written += to.write(map.bytes().subspan(t * kEach, kEach), t * kEach); });
  }
  for (auto& t : threads) t.join();
  CHECK(written == data.size());
  std::vector<std::byte> back(data.size());
  to.read(back, 0);
  CHECK(back == data);
  // And into mapped memory: the file's own, so that source and target fault in the same file.
  Mapping target = to.map(0, data.size());
  to.punch(0, data.size());
  CHECK(from.read(target.bytes(), 0) == data.size());
  CHECK(std::memcmp(target.data(), data.data(), data.size()) == 0);
}

TEST_CASE("errors name their errno; a moved-from file is closed") {
  Manager m;
  Volume v(m.path());
  CHECK(error_of([&] { v.open("/none", O_RDWR); }) == ENOENT);
  CHECK(error_of([&] { v.mkdir("/d"), v.mkdir("/d"); }) == EEXIST);
  File f = v.open("/f", O_RDWR | O_CREAT);
  CHECK(error_of([&] { f.map(1, 100); }) == EINVAL);
  CHECK(error_of([&] { f.map(0, 0); }) == EINVAL);
  CHECK(error_of([&] { f.map((uint64_t{1} << 63) - 4096, 8192); }) == EOVERFLOW);
  File g = std::move(f);
  CHECK_FALSE(f);
  CHECK(error_of([&] { f.stat(); }) == EBADF);
  CHECK(error_of([&] { f.map(0, 4096); }) == EBADF);
  g.close();
  CHECK(error_of([&] { g.truncate(0); }) == EBADF);
  File ro = v.open("/f", O_RDONLY);
  CHECK(error_of([&] { ro.map(0, 4096); }) == EACCES);
  CHECK(error_of([&] { ro.truncate(0); }) == EBADF);
}

TEST_CASE("directories of more entries than fit a slot are listed whole") {
  Manager m;
  Volume v(m.path());
  v.mkdir("/d");
  for (int i = 0; i < 1500; ++i) v.open("/d/file-with-a-rather-long-name-" + std::to_string(i), O_RDWR | O_CREAT);
  auto names = v.list("/d");
  CHECK(names.size() == 1500);
  std::sort(names.begin(), names.end(), [](auto& a, auto& b) { return a.name < b.name; });
  auto same = [](auto& a, auto& b) { return a.name == b.name; };
  CHECK(std::adjacent_find(names.begin(), names.end(), same) == names.end());
  v.rename("/d/" + names[0].name, "/x");
  CHECK(v.stat("/x").ino == names[0].ino);
  v.unlink("/x");
  CHECK(v.list("/d").size() == 1499);
}

TEST_CASE("extents, statfs and clients agree with what was done") {
  Manager m;
  Volume v(m.path());
  File f = v.open("/f", O_RDWR | O_CREAT);
  f.write(pattern(8 * 4096, 0), 0);
  f.punch(2 * 4096, 4096);
  uint64_t blocks = 0;
  for (const auto& e : f.extents()) {
    CHECK_FALSE((e.pgoff <= 2 && 2 < e.pgoff + e.count));
    blocks += e.count;
  }
  CHECK(blocks == 7);
  CHECK(v.extents("/f").size() == f.extents().size());
  const StatFs s = v.statfs();
  CHECK(s.block_size == 4096);
  CHECK(s.blocks_total == 16384);
  CHECK(s.blocks_used >= 7);
  CHECK(s.uuid.size() == 36);
  CHECK(s.manager_pid == getpid());
  REQUIRE(v.clients().size() == 1);
  CHECK(v.clients()[0].handles == 1);
  const auto blocks_of = admin::blocks(v.session(), std::vector<uint64_t>{f.extents()[0].pfn, 16383});
  REQUIRE(blocks_of.size() == 2);
  CHECK(blocks_of[0].ino == f.stat().ino);
  CHECK(admin::counters(v.session()).requests > 0);
}

TEST_CASE("a shutdown is answered before the session ends; mappings can be let go afterwards") {
  Manager m;
  Volume v(m.path());
  File f = v.open("/f", O_RDWR | O_CREAT);
  f.truncate(4096);
  Mapping map = f.map(0, 4096);
  map.data()[0] = std::byte{1};
  admin::shutdown(v.session());
  m.server->wait();
  CHECK(error_of([&] { f.stat(); }) == ENOTCONN);
  map.unmap();
}

TEST_CASE("a read-only client, by either API: reads, maps to load, and is refused the rest") {
  Manager m;
  Volume writer(m.path());
  File f = writer.open("/r", O_RDWR | O_CREAT);
  f.write(pattern(8192, 1), 0);
  Volume reader(m.path(), Access::kReadOnly);
  CHECK(error_of([&] { reader.open("/r", O_RDWR); }) == EROFS);
  CHECK(error_of([&] { reader.mkdir("/d"); }) == EROFS);
  CHECK(error_of([&] { reader.grow(1 << 30); }) == EROFS);
  CHECK(error_of([&] { admin::shutdown(reader.session()); }) == EROFS);
  File again = reader.open("/r", O_RDONLY);
  std::vector<std::byte> read(8192);
  CHECK(again.read(read, 0) == 8192);
  CHECK(read == pattern(8192, 1));
  CHECK(error_of([&] { again.map(0, 4096); }) == EACCES);
  Mapping map = again.map(0, 8192, PROT_READ);
  CHECK(std::memcmp(map.data(), read.data(), 8192) == 0);
  f.punch(4096, 4096);
  CHECK(map.data()[5000] == std::byte{0});
  unsigned readers = 0;
  for (const ClientInfo& c : writer.clients()) readers += c.read_only;
  CHECK(readers == 1);

  CHECK(pmfs_connect_read_only("/nonexistent") == nullptr);
  CHECK(errno == ENOENT);
  pmfs_volume* v = pmfs_connect_read_only(m.path().c_str());
  REQUIRE(v != nullptr);
  CHECK(pmfs_open(v, "/r", O_RDWR, 0) == -1);
  CHECK(errno == EROFS);
  CHECK(pmfs_unlink(v, "/r") == -1);
  CHECK(errno == EROFS);
  const int fd = pmfs_open(v, "/r", O_RDONLY, 0);
  REQUIRE(fd > 0);
  CHECK(pmfs_mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
  CHECK(errno == EACCES);
  void* p = pmfs_mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  REQUIRE(p != MAP_FAILED);
  CHECK(std::memcmp(p, read.data(), 4096) == 0);
  CHECK(pmfs_mprotect(p, 4096, PROT_READ | PROT_WRITE) == -1);
  CHECK(errno == EACCES);
  CHECK(pmfs_madvise(p, 4096, MADV_REMOVE) == -1);
  CHECK(errno == EACCES);
  CHECK(pmfs_munmap(p, 4096) == 0);
  CHECK(pmfs_close(fd) == 0);
  pmfs_disconnect(v);
}

TEST_CASE("the C API: descriptors, mappings and errno") {
  Manager m;
  CHECK(pmfs_connect("/nonexistent") == nullptr);
  CHECK(errno == ENOENT);
  CHECK(std::string(pmfs_strerror()).find("/nonexistent") != std::string::npos);
  pmfs_volume* v = pmfs_connect(m.path().c_str());
  REQUIRE(v != nullptr);
  const int fd = pmfs_open(v, "/c", O_RDWR | O_CREAT, 0600);
  REQUIRE(fd > 0);
  CHECK(pmfs_ftruncate(fd, 100000) == 0);
  auto* p = static_cast<char*>(pmfs_mmap(nullptr, 100000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  REQUIRE(p != MAP_FAILED);
  std::strcpy(p + 5000, "hello");
  pmfs_persist(p + 5000, 6);
  char buffer[6] = {};
  CHECK(pmfs_pread(fd, buffer, 6, 5000) == 6);
  CHECK(std::string(buffer) == "hello");
  CHECK(pmfs_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096) == 0);
  CHECK(p[5000] == 0);
  CHECK(pmfs_pwrite(fd, "x", 1, 5000) == 1);
  CHECK(p[5000] == 'x');
  CHECK(pmfs_append(fd, "end", 3) == 3);
  struct stat st;
  CHECK(pmfs_fstat(fd, &st) == 0);
  CHECK(st.st_size == 100003);
  CHECK(S_ISREG(st.st_mode));
  CHECK(pmfs_fsync(fd) == 0);
  CHECK(pmfs_fallocate(fd, 0x40, 0, 4096) == -1);
  CHECK(errno == EOPNOTSUPP);
  CHECK(pmfs_mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED);
  CHECK(errno == EOPNOTSUPP);
  CHECK(pmfs_mkdir(v, "/d", 0755) == 0);
  CHECK(pmfs_rename(v, "/c", "/d/c") == 0);
  CHECK(pmfs_stat(v, "/d/c", &st) == 0);
  CHECK(pmfs_rmdir(v, "/d") == -1);
  CHECK(errno == ENOTEMPTY);
  CHECK(pmfs_unlink(v, "/d/c") == 0);
  CHECK(pmfs_rmdir(v, "/d") == 0);
  CHECK(pmfs_close(fd) == 0);
  CHECK(pmfs_close(fd) == -1);
  CHECK(errno == EBADF);
  pmfs_disconnect(v);
  CHECK(p[5000] == 'x');  // goes on
  CHECK(pmfs_munmap(p + 1, 4096) == -1);
  CHECK(errno == EINVAL);
  CHECK(pmfs_munmap(p, 4096) == 0);  // a piece
  CHECK(p[5000] == 'x');
  CHECK(pmfs_munmap(p, 100000) == 0);
  CHECK(pmfs_munmap(p, 100000) == 0);  // nothing is there
}
