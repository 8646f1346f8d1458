// The transport: slots, sleeping and spinning, errors, and managers that are wrong, slow or gone.
#include "lib/session.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <thread>

#include "tests/lib/fake_manager.h"

using namespace pmfs;
using namespace pmfs::proto;
using test::FakeManager;

namespace {

bool echo(const Request& r, std::byte*, Reply& reply) {
  reply.v0 = r.a0;
  return true;
}

template <class F>
int error_of(F&& f, std::string* message = nullptr) {
  try {
    f();
  } catch (const Error& e) {
    if (message != nullptr) *message = e.message();
    return e.err();
  }
  return 0;
}

Request nop(uint64_t a0) {
  Request r{};
  r.op = static_cast<uint16_t>(Op::kNop);
  r.version = kVersion;
  r.a0 = a0;
  return r;
}

int64_t thread_cpu_ns() {
  timespec ts;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return ts.tv_sec * int64_t{1'000'000'000} + ts.tv_nsec;
}

}  // namespace

TEST_CASE("more threads than slots: every thread gets its own answers") {
  FakeManager m([](const Request& r, std::byte* bounce, Reply& reply) {
    if (r.a0 % 64 == 0) usleep(200);  // some slow ones, so that slots run out and threads sleep
    uint64_t v;
    std::memcpy(&v, bounce, sizeof v);
    reply.v0 = v + r.a0;
    std::memcpy(bounce, &reply.v0, sizeof reply.v0);
    return true;
  });
  const auto s = Session::connect(m.path());
  std::atomic<uint64_t> good{0};
  std::vector<std::thread> threads;
  constexpr uint64_t kThreads = 70, kCalls = 200;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < kCalls; ++i) {
        const uint64_t x = t * 1'000'000 + i;
        uint64_t out = 0;
        const Reply r = s->call(nop(i), std::as_bytes(std::span(&x, 1)), [&](const Reply&, auto bounce) {
          std::memcpy(&out, bounce.data(), sizeof out);
        });
        if (r.v0 == x + i && out == x + i) good.fetch_add(1);
      }
    });
  }
  for (auto& t : threads) t.join();
  CHECK(good == kThreads * kCalls);
  for (uint32_t i = 0; i < kSlots; ++i) CHECK(m.ring().slot(i).state.load() == kFree);
}

TEST_CASE("waiting for a slow manager costs no CPU") {
  FakeManager m([](const Request&, std::byte*, Reply&) {
    usleep(50'000);
    return true;
  });
  const auto s = Session::connect(m.path());
  const int64_t before = thread_cpu_ns();
  for (int i = 0; i < 5; ++i) s->call(nop(0));
  CHECK(thread_cpu_ns() - before < 20'000'000);  // of 250 ms
}

TEST_CASE("an error reply is thrown with the manager's sentence, and the slot is free again") {
  FakeManager m([](const Request& r, std::byte* bounce, Reply& reply) {
    if (r.a0 == 0) return true;
    const std::string text = "no such thing: seven";
    std::memcpy(bounce, text.data(), text.size());
    reply.err = ENOENT;
    reply.message_len = static_cast<uint32_t>(text.size());
    return true;
  });
  const auto s = Session::connect(m.path());
  for (int i = 0; i < 100; ++i) {
    std::string message;
    CHECK(error_of([&] { s->call(nop(1)); }, &message) == ENOENT);
    CHECK(message == "no such thing: seven");
  }
  CHECK(error_of([&] { s->call(nop(0)); }) == 0);
}

TEST_CASE("requests that don't fit are refused before they are sent") {
  FakeManager m(echo);
  const auto s = Session::connect(m.path());
  const std::vector<std::byte> big(kBounceBytes + 1);
  CHECK(error_of([&] { s->call(nop(0), big); }) == EINVAL);
  CHECK(error_of([&] { s->call_path(nop(0), std::string(kMaxPath + 1, 'x')); }) == ENAMETOOLONG);
  CHECK(error_of([&] { s->call_path(nop(0), std::string_view("a\0b", 3)); }) == EINVAL);
  CHECK(error_of([&] { s->call_path(nop(0), std::string(kMaxPath, 'x'), std::string(kMaxPath, 'y')); }) == 0);
}

TEST_CASE("a manager that dies and does not come back ends every wait, with its name in the message") {
  ::setenv("PMFS_PATIENCE_MS", "300", 1);
  std::atomic<int> seen{0};
  FakeManager m([&](const Request& r, std::byte*, Reply&) {
    seen.fetch_add(1);
    return r.a0 == 0;
  });
  const auto s = Session::connect(m.path());
  ::unsetenv("PMFS_PATIENCE_MS");
  s->call(nop(0));
  std::atomic<int> gone{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 40; ++i) {  // 32 of them in a slot, the rest waiting for one
    threads.emplace_back([&] {
      std::string message;
      if (error_of([&] { s->call(nop(1)); }, &message) == ENOTCONN && message.find(m.path()) != message.npos) gone++;
    });
  }
  while (seen < 33) usleep(1000);
  m.die();
  for (auto& t : threads) t.join();
  CHECK(gone == 40);
  CHECK_FALSE(s->closed());  // it may come back yet
  CHECK(error_of([&] { s->call(nop(0)); }) == ENOTCONN);
}

TEST_CASE("a manager that closes the session ends a wait at once") {
  FakeManager m([](const Request& r, std::byte*, Reply&) { return r.a0 == 0; });
  const auto s = Session::connect(m.path());
  s->call(nop(0));
  std::thread t([&] { CHECK(error_of([&] { s->call(nop(1)); }) == ENOTCONN); });
  while (true) {
    bool running = false;
    for (uint32_t i = 0; i < kSlots; ++i) running |= (m.ring().slot(i).state.load() & ~kWaitingBit) == kRunning;
    if (running) break;
    usleep(1000);
  }
  m.ring().header().closed = 1;
  for (uint32_t i = 0; i < kSlots; ++i) futex_wake(&m.ring().slot(i).state, 100);
  t.join();
}

TEST_CASE("connecting: what is wrong is told") {
  std::string message;
  auto connect = [&](const std::string& path) { return error_of([&] { Session::connect(path); }, &message); };
  SECTION("no directory") { CHECK(connect("/nonexistent/volume") == ENOENT); }
  SECTION("no manager") {
    test::TempDir d;
    CHECK(connect(d.path()) == ENOENT);
    CHECK(message.find("no manager serves the volume") != message.npos);
  }
  SECTION("a dead manager's socket") {
    FakeManager m(echo);
    m.die();
    CHECK(connect(m.path()) == ECONNREFUSED);
  }
  SECTION("a manager that refuses") {
    FakeManager m(echo, [](HelloReply&, size_t* fds) { *fds = 0; });
    CHECK(connect(m.path()) == EACCES);
    CHECK(message == "not you");
  }
  SECTION("too few fds") {
    FakeManager m(echo, [](HelloReply&, size_t* fds) { *fds = 4; });
    CHECK(connect(m.path()) == EPROTO);
  }
  SECTION("another ring") {
    FakeManager m(echo, [](HelloReply& r, size_t*) { r.slots = 64; });
    CHECK(connect(m.path()) == EPROTO);
  }
  SECTION("moved mappings would lose their registration") {
    FakeManager m(echo, [](HelloReply& r, size_t*) { r.uffd_features = 0; });
    CHECK(connect(m.path()) == EPROTO);
  }
  SECTION("a path longer than a socket's address") {
    FakeManager m(echo, nullptr, std::string(200, 'd'));
    CHECK(connect(m.path()) == 0);
  }
}

TEST_CASE("sessions come and go without leaving fds or threads") {
  auto count = [](const char* dir) {
    size_t n = 0;
    for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator(dir)) ++n;
    return n;
  };
  FakeManager m(echo);
  { Session::connect(m.path())->call(nop(1)); }
  usleep(20'000);
  const size_t fds = count("/proc/self/fd"), threads = count("/proc/self/task");
  for (int i = 0; i < 20; ++i) Session::connect(m.path())->call(nop(1));
  usleep(20'000);
  CHECK(count("/proc/self/fd") <= fds);
  CHECK(count("/proc/self/task") <= threads);
}
