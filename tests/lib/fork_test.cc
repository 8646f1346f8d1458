// fork(): mappings and files go on working in the child, whatever the other threads were doing; a manager that dies
// stalls faults instead of answering them with zeros.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "pmfs/pmfs.hpp"
#include "tests/lib/fake_manager.h"
#include "tests/lib/real_manager.h"

using namespace pmfs;

namespace {

constexpr size_t kPage = 4096;

// Runs body in a child; its value is the exit code (255: it threw, 1000 + n: signal n).
template <class F>
int in_child(F&& body) {
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(60);
    int code = 255;
    try {
      code = body();
    } catch (const std::exception& e) {
      fprintf(stderr, "child: %s\n", e.what());
    }
    _exit(code);
  }
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("a child shares the parent's files and mappings at the same addresses") {
  test::RealManager m;
  Volume v(m.path());
  File f = v.open("/f", O_RDWR | O_CREAT), closed = v.open("/g", O_RDWR | O_CREAT);
  f.truncate(64 * kPage);
  closed.truncate(4 * kPage);
  Mapping a = f.map(0, 64 * kPage), read_only = f.map(4 * kPage, 2 * kPage, PROT_READ), g = closed.map(0, 4 * kPage);
  closed.close();
  a.data()[0] = std::byte{1};
  g.data()[0] = std::byte{2};
  CHECK(in_child([&] {
          if (a.data()[0] != std::byte{1} || g.data()[0] != std::byte{2}) return 1;
          if (a.data()[40 * kPage] != std::byte{0}) return 2;  // a hole
          a.data()[40 * kPage] = std::byte{3};
          if (read_only.data()[0] != std::byte{0}) return 3;
          std::byte b{};
          if (f.read({&b, 1}, 40 * kPage) != 1 || b != std::byte{3}) return 4;
          f.punch(0, kPage);
          if (a.data()[0] != std::byte{0}) return 5;
          if (v.clients().size() != 2) return 6;
          g.unmap();
          Mapping again = v.open("/g", O_RDWR).map(0, kPage);
          if (again.data()[0] != std::byte{2}) return 7;
          return in_child([&] { return a.data()[40 * kPage] == std::byte{3} ? 0 : 1; });  // and a grandchild
        }) == 0);
  CHECK(a.data()[0] == std::byte{0});
  CHECK(a.data()[40 * kPage] == std::byte{3});
  CHECK(g.data()[0] == std::byte{2});  // the child's unmap was its own
  f.write(std::vector<std::byte>(kPage, std::byte{9}), 4 * kPage);
  CHECK(read_only.data()[0] == std::byte{9});
}

TEST_CASE("forks in the middle of other threads' opens, maps, faults and unmaps") {
  test::RealManager m;
  Volume v(m.path());
  File f = v.open("/f", O_RDWR | O_CREAT);
  f.truncate(256 * kPage);
  Mapping map = f.map(0, 256 * kPage);
  std::atomic<bool> stop{false};
  std::atomic<int> broken{0}, rounds{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::string name = "/t" + std::to_string(t);
      for (unsigned i = 0; !stop; ++i) {
        try {
          File own = v.open(name, O_RDWR | O_CREAT);
          own.truncate(16 * kPage);
          Mapping mine = own.map(0, 16 * kPage);
          mine.data()[i % 16 * kPage] = static_cast<std::byte>(i);
          if (mine.data()[i % 16 * kPage] != static_cast<std::byte>(i)) broken++;
          map.data()[(128 + t) * kPage] = static_cast<std::byte>(i);
          if (i % 4 == 0) own.punch(0, 8 * kPage);
          rounds++;
        } catch (const Error& e) {
          fprintf(stderr, "thread: %s\n", e.what());
          broken++;
        }
      }
    });
  }
  for (int i = 0; i < 40; ++i) {
    map.data()[i * kPage] = static_cast<std::byte>(i + 1);
    const int code = in_child([&] {
      if (map.data()[i * kPage] != static_cast<std::byte>(i + 1)) return 1;
      map.data()[(200 + i) * kPage] = std::byte{7};
      File own = v.open("/child", O_RDWR | O_CREAT);
      own.truncate(kPage);
      own.map(0, kPage).data()[5] = std::byte{1};
      return 0;
    });
    CHECK(code == 0);
    CHECK(map.data()[(200 + i) * kPage] == std::byte{7});
  }
  stop = true;
  for (auto& t : threads) t.join();
  CHECK(broken == 0);
  CHECK(rounds > 0);
}

TEST_CASE("the child of a process whose manager is gone has no manager either, and sees no zeros") {
  test::RealManager m;
  Volume v(m.path());
  File f = v.open("/f", O_RDWR | O_CREAT);
  f.truncate(kPage);
  Mapping map = f.map(0, kPage);
  map.data()[0] = std::byte{1};
  m.server->stop();
  CHECK(in_child([&] {
          try {
            f.stat();
            return 1;
          } catch (const Error& e) {
            if (e.err() != ENOTCONN) return 2;
          }
          signal(SIGSEGV, [](int) { _exit(42); });
          const volatile std::byte b = map.data()[0];
          return 100 + static_cast<int>(b);
        }) == 42);
  map.unmap();
}

TEST_CASE("a dead manager stalls faults: they are not answered with zeros") {
  // What the child has seen, where the parent can look.
  struct Shared {
    std::atomic<int> touching, touched, calls_failed;
  };
  auto* shared = static_cast<Shared*>(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  // The fork comes before the manager's thread: a sanitizer's allocator does not survive one beside a busy thread.
  int to_child[2];
  REQUIRE(pipe(to_child) == 0);
  const pid_t pid = fork();
  if (pid == 0) {
    ::setenv("PMFS_PATIENCE_MS", "300", 1);
    close(to_child[1]);
    std::string path;
    for (char c; read(to_child[0], &c, 1) == 1;) path += c;
    Volume v(path);
    File f = v.open("/f", O_RDWR);
    Mapping map = f.map(0, 4 * kPage);
    std::thread t([&] {
      shared->touching = 1;
      static_cast<void>(*const_cast<volatile std::byte*>(map.data()));
      shared->touched = 1;
    });
    for (;;) {
      try {
        f.stat();
      } catch (const Error& e) {
        if (e.err() == ENOTCONN) shared->calls_failed = 1;
      }
      usleep(10'000);
    }
  }
  close(to_child[0]);
  test::FakeManager m([](const proto::Request& r, std::byte*, proto::Reply& reply) {
    if (r.op == static_cast<uint16_t>(proto::Op::kOpen)) reply.handle = 1;
    if (r.op == static_cast<uint16_t>(proto::Op::kMap)) reply.v0 = 1;
    return true;
  });
  REQUIRE(write(to_child[1], m.path().data(), m.path().size()) == static_cast<ssize_t>(m.path().size()));
  close(to_child[1]);
  while (shared->touching == 0) usleep(1000);
  usleep(100'000);
  CHECK(shared->touched == 0);
  m.die();
  for (int i = 0; i < 1000 && shared->calls_failed == 0; ++i) usleep(10'000);
  CHECK(shared->calls_failed == 1);
  usleep(500'000);
  CHECK(shared->touched == 0);
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  munmap(shared, kPage);
}
