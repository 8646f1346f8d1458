#include "pmfs/proto/control.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

using namespace pmfs;
using namespace pmfs::proto;

namespace {

struct Pair {
  UniqueFd a, b;
  explicit Pair(int flags = 0) {
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0, fds) == 0);
    a.reset(fds[0]);
    b.reset(fds[1]);
  }
};

size_t open_fds() {
  size_t n = 0;
  for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator("/proc/self/fd")) ++n;
  return n;
}

void send_raw(int socket, const void* data, size_t bytes, int fds) {
  iovec iov{const_cast<void*>(data), bytes};
  std::vector<int> list(static_cast<size_t>(fds), 0);
  std::vector<char> control(CMSG_SPACE(sizeof(int) * list.size()));
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  if (fds > 0) {
    msg.msg_control = control.data();
    msg.msg_controllen = control.size();
    cmsghdr* c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * list.size());
    memcpy(CMSG_DATA(c), list.data(), sizeof(int) * list.size());
  }
  REQUIRE(sendmsg(socket, &msg, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes));
}

}  // namespace

TEST_CASE("a message arrives with its type, sequence number and fds") {
  Pair p;
  HelloRequest hello{};
  hello.fork_token = 77;
  const int fds[] = {0, 1};
  REQUIRE(send_message(p.a.get(), Control::kHello, 5, hello, fds) == 0);
  ControlMessage m;
  REQUIRE(recv_control(p.b.get(), &m).status == RecvStatus::kOk);
  CHECK(m.type() == Control::kHello);
  CHECK(m.header().seq == 5);
  CHECK(m.header().bytes == sizeof(HelloRequest));
  REQUIRE(m.fd_count == 2);
  CHECK((fcntl(m.fds[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
  const auto got = m.as<HelloRequest>(Control::kHello, 2);
  REQUIRE(got);
  CHECK(got->fork_token == 77);
  CHECK_FALSE(m.as<HelloRequest>(Control::kHello, 0));     // fds nobody asked for
  CHECK_FALSE(m.as<HelloRequest>(Control::kWelcome, 2));   // another type
  CHECK_FALSE(m.as<SentinelRequest>(Control::kHello, 2));  // another size
}

TEST_CASE("an error message is cut to its field and stays terminated") {
  Pair p;
  REQUIRE(send_error(p.a.get(), 9, EACCES, std::string(1000, 'x').c_str()) == 0);
  ControlMessage m;
  REQUIRE(recv_control(p.b.get(), &m).status == RecvStatus::kOk);
  const auto e = m.as<ErrorReply>(Control::kError);
  REQUIRE(e);
  CHECK(e->err == EACCES);
  CHECK(std::string(e->message) == std::string(sizeof e->message - 1, 'x'));
}

TEST_CASE("what is not a message is refused by kind, and its fds are closed") {
  Pair p;
  ControlMessage m;
  ControlHeader h{kMagic, kVersion, static_cast<uint16_t>(Control::kOk), sizeof(ControlHeader), 1};
  const size_t before = open_fds();
  SECTION("shorter than a header") {
    send_raw(p.a.get(), &h, 8, 2);
    CHECK(recv_control(p.b.get(), &m).status == RecvStatus::kMalformed);
  }
  SECTION("wrong magic") {
    h.magic ^= 1;
    send_raw(p.a.get(), &h, sizeof h, 2);
    CHECK(recv_control(p.b.get(), &m).status == RecvStatus::kMalformed);
  }
  SECTION("another version") {
    h.version += 1;
    send_raw(p.a.get(), &h, sizeof h, 2);
    CHECK(recv_control(p.b.get(), &m).status == RecvStatus::kMalformed);
  }
  SECTION("lies about its length") {
    h.bytes += 8;
    send_raw(p.a.get(), &h, sizeof h, 2);
    CHECK(recv_control(p.b.get(), &m).status == RecvStatus::kMalformed);
  }
  SECTION("longer than any message") {
    std::vector<std::byte> big(kMaxControlBytes + 1);
    memcpy(big.data(), &h, sizeof h);
    send_raw(p.a.get(), big.data(), big.size(), 2);
    CHECK(recv_control(p.b.get(), &m).status == RecvStatus::kTruncated);
  }
  SECTION("more fds than any message") {
    send_raw(p.a.get(), &h, sizeof h, kMaxControlFds + 1);
    CHECK(recv_control(p.b.get(), &m).status == RecvStatus::kTruncated);
  }
  CHECK(m.fd_count == 0);
  CHECK(open_fds() == before);
  // The next message is not affected.
  REQUIRE(send_message(p.a.get(), Control::kOk, 2) == 0);
  CHECK(recv_control(p.b.get(), &m).status == RecvStatus::kOk);
}

TEST_CASE("as many fds as allowed arrive; those of the previous message are closed by the next receive") {
  Pair p;
  ControlMessage m;
  const size_t before = open_fds();
  const std::vector<int> fds(kMaxControlFds, 0);
  for (int i = 0; i < 3; ++i) {
    REQUIRE(send_message(p.a.get(), Control::kOk, 1, ControlHeader{}, fds) == 0);
    REQUIRE(recv_control(p.b.get(), &m).status == RecvStatus::kOk);
    CHECK(m.fd_count == kMaxControlFds);
    CHECK(open_fds() == before + kMaxControlFds);
  }
  const std::vector<int> more(kMaxControlFds + 1, 0);
  CHECK(send_message(p.a.get(), Control::kOk, 1, ControlHeader{}, more) == EINVAL);
}

TEST_CASE("a closed peer, an empty and a full socket are told apart") {
  Pair p(SOCK_NONBLOCK);
  ControlMessage m;
  CHECK(recv_control(p.b.get(), &m).status == RecvStatus::kAgain);
  int err = 0;
  for (int i = 0; i < 100000 && err == 0; ++i) err = send_message(p.a.get(), Control::kOk, 1);
  CHECK(err == EAGAIN);
  p.b.reset();
  CHECK(send_message(p.a.get(), Control::kOk, 1) == EPIPE);  // and no SIGPIPE
  Pair q;
  q.a.reset();
  CHECK(recv_control(q.b.get(), &m).status == RecvStatus::kEof);
  CHECK(recv_control(-1, &m).status == RecvStatus::kError);
}
