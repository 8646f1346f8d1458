// From connect to the first request: what is refused, with which errno, and what a refused client leaves behind.
#include <cstring>

#include <fcntl.h>
#include <sys/socket.h>

#include <thread>

#include "pmfs/base/pause.h"
#include "tests/server/server_fixture.h"

using namespace pmfs;
using namespace pmfs::proto;
using namespace pmfs::test;

namespace {

int32_t error_in(const ControlMessage& m) {
  auto e = m.as<ErrorReply>(Control::kError);
  return e ? e->err : 0;
}

}  // namespace

TEST_CASE("a second manager on the same volume is refused and told which process has it") {
  ServerFixture f;
  server::ServerOptions o;
  o.volume = f.path;
  try {
    server::Server second(o);
    FAIL("it was let in");
  } catch (const Error& e) {
    CHECK(e.err() == EBUSY);
    CHECK(e.message().find(std::to_string(::getpid())) != std::string::npos);
  }
}

TEST_CASE("the welcome says what the ring and the region are") {
  ServerFixture f;
  RawClient c(f.path);
  CHECK(c.welcome.region_blocks == 4096);
  CHECK(c.welcome.block_size == kBlockSize);
  CHECK(c.welcome.slots == kSlots);
  CHECK(c.welcome.agent_slots == kAgentSlots);
  CHECK(c.welcome.ring_bytes == RingLayout::kBytes);
  CHECK(c.ask(Op::kNop).err == 0);
}

TEST_CASE("another version, or no message at all: EPROTO and the end of the connection") {
  ServerFixture f;
  const bool newer = GENERATE(true, false);
  UniqueFd s = raw_socket(f.path);
  HelloRequest hello{};
  hello.h = {newer ? kMagic : 0x12345678, static_cast<uint16_t>(newer ? kVersion + 1 : kVersion),
             static_cast<uint16_t>(Control::kHello), sizeof hello, 1};
  REQUIRE(send_control(s.get(), std::as_bytes(std::span(&hello, 1))) == 0);
  ControlMessage m;
  REQUIRE(recv_control(s.get(), &m).status == RecvStatus::kOk);
  CHECK(error_in(m) == EPROTO);
  CHECK(recv_control(s.get(), &m).status == RecvStatus::kEof);
  CHECK(f.sessions_become(0));
}

TEST_CASE("messages out of order are refused, the connection goes on") {
  ServerFixture f;
  UniqueFd s = raw_socket(f.path);
  ControlMessage m;
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  UniqueFd owner(null);
  const int fds[] = {null};
  REQUIRE(send_message(s.get(), Control::kUffd, 1, ControlHeader{}, fds) == 0);  // before hello
  REQUIRE(recv_control(s.get(), &m).status == RecvStatus::kOk);
  CHECK(error_in(m) == EPROTO);
  REQUIRE(send_message(s.get(), Control::kHello, 2, HelloRequest{}) == 0);
  REQUIRE(recv_control(s.get(), &m).status == RecvStatus::kOk);
  CHECK(m.type() == Control::kWelcome);
  REQUIRE(send_message(s.get(), Control::kHello, 3, HelloRequest{}) == 0);  // twice
  REQUIRE(recv_control(s.get(), &m).status == RecvStatus::kOk);
  CHECK(error_in(m) == EPROTO);
  REQUIRE(send_message(s.get(), Control::kUffd, 4, ControlHeader{}, fds) == 0);  // not a userfaultfd
  REQUIRE(recv_control(s.get(), &m).status == RecvStatus::kOk);
  CHECK(error_in(m) != 0);
}

TEST_CASE("a fork token that nobody gave is ESTALE") {
  ServerFixture f;
  UniqueFd s = raw_socket(f.path);
  HelloRequest hello{};
  hello.fork_token = 4711;
  REQUIRE(send_message(s.get(), Control::kHello, 1, hello) == 0);
  ControlMessage m;
  REQUIRE(recv_control(s.get(), &m).status == RecvStatus::kOk);
  CHECK(error_in(m) == ESTALE);
}

TEST_CASE("a client that leaves takes its files along: an unlinked one is gone with it") {
  ServerFixture f;
  {
    RawClient c(f.path);
    const Reply opened = c.ask(Op::kOpen, "/f", O_RDWR | O_CREAT, 0644);
    REQUIRE(opened.err == 0);
    Request write{};
    write.op = static_cast<uint16_t>(Op::kWrite);
    write.version = kVersion;
    write.handle = opened.handle;
    write.a1 = 2 * kBlockSize;
    CHECK(c.ask(1, write).v0 == 2 * kBlockSize);
    CHECK(c.ask(Op::kUnlink, "/f").err == 0);
    CHECK(f.server->volume().space().blocks_used == 2);
  }
  CHECK(f.sessions_become(0));
  CHECK(f.server->volume().space().blocks_used == 0);
}

TEST_CASE("a stop ends the sessions: the ring says closed, the socket is shut") {
  ServerFixture f;
  RawClient c(f.path);
  f.server->stop();
  CHECK(c.ring->header().closed.load() == 1);
  ControlMessage m;
  CHECK(recv_control(c.socket.get(), &m).status == RecvStatus::kEof);
}

#ifdef PMFS_PAUSE_POINTS
TEST_CASE("who asks for the stop is answered before its session ends") {
  ServerFixture f;
  RawClient c(f.path);
  pause::Gate executed("request:executed");
  Reply reply{};
  std::thread asking([&] { reply = c.ask(Op::kShutdown); });
  CHECK(executed.wait_arrived());
  std::thread stopping([&] { f.server->wait(); });
  bool closed = false;  // while its request is under way
  for (int i = 0; i < 200 && !closed; ++i) {
    closed = c.ring->header().closed.load() != 0;
    ::usleep(1000);
  }
  executed.release();
  asking.join();
  stopping.join();
  CHECK_FALSE(closed);
  CHECK(reply.err == 0);
  CHECK(c.ring->header().closed.load() == 1);
}
#endif
