// A client that lies: garbage on the socket and in the ring. Each message gets an answer or the connection is
// closed; the manager lives and serves the honest client beside it.
#include "tests/integration/fixture.h"

#include <cstdlib>
#include <cstring>
#include <random>

#include <fcntl.h>
#include <sys/socket.h>

#include "pmfs/proto/control.h"
#include "pmfs/proto/ring.h"
#include "tests/support/raw_client.h"

using namespace pmfs;
using namespace pmfs::proto;
using namespace pmfs::test;

namespace {

uint64_t messages(uint64_t usual) {  // PMFS_FUZZ_MESSAGES for the long run
  const char* s = std::getenv("PMFS_FUZZ_MESSAGES");
  return s ? std::strtoull(s, nullptr, 10) : usual;
}

bool takes_two(uint16_t op) {
  return op == static_cast<uint16_t>(Op::kRename) || op == static_cast<uint16_t>(Op::kLink) ||
         op == static_cast<uint16_t>(Op::kSymlink);
}

}  // namespace

TEST_CASE("garbage on the socket: an error or a closed connection, and the manager lives", "[fuzz]") {
  Manager m(with_pagers());
  auto honest = m.client();
  honest->ok("open f /f rwc");
  std::mt19937_64 rng(1);
  const uint64_t n = messages(4000);
  UniqueFd fd = raw_socket(m.path());
  for (uint64_t i = 0; i < n; ++i) {
    std::byte buffer[600];
    size_t bytes = 1 + rng() % sizeof buffer;
    for (size_t k = 0; k < bytes; ++k) buffer[k] = std::byte(rng());
    if (rng() % 4) {  // a plausible header
      if (rng() % 2) bytes = 16 + rng() % 100;
      ControlHeader h{kMagic, kVersion, static_cast<uint16_t>(rng() % 10), static_cast<uint32_t>(bytes), 7};
      std::memcpy(buffer, &h, sizeof h);
    }
    int extra = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int fds[] = {extra, extra};
    send_control(fd.get(), {buffer, std::max<size_t>(bytes, sizeof(ControlHeader))}, {fds, rng() % 3});
    ::close(extra);
    ControlMessage reply;
    timeval t{0, 200};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    if (recv_control(fd.get(), &reply).status == RecvStatus::kEof) fd = raw_socket(m.path());
  }
  CHECK(honest->cmd("write f 0 4096 3") == "4096");
  m.check_clean();
}

TEST_CASE("garbage in the ring: every request is answered, nothing of others is lost", "[fuzz]") {
  Manager m(with_pagers());
  auto honest = m.client();
  honest->ok("open f /honest rwc");
  CHECK(honest->cmd("write f 0 65536 42") == "65536");
  honest->ok("map f m 0 65536");
  auto liar = std::make_unique<RawClient>(m.path());
  std::mt19937_64 rng(2);
  const uint64_t n = messages(20000);
  const char* paths[] = {"/x", "/x/y", "", "/", "//", "/..", "relative", "/d", "/d/z"};
  auto number = [&]() -> uint64_t {
    switch (rng() % 6) {
      case 0: return rng() % 8;
      case 1: return rng() % 64 * 4096;
      case 2: return rng();
      case 3: return (uint64_t{1} << (rng() % 64)) - rng() % 2;
      case 4: return ~uint64_t{0} - rng() % 4097;
      default: return 0x7f0000000000 + rng() % 1024 * 4096;
    }
  };
  uint64_t refused = 0;
  for (uint64_t i = 0; i < n; ++i) {
    Request r{};
    do r.op = static_cast<uint16_t>(rng() % 50);
    while (r.op == static_cast<uint16_t>(Op::kShutdown));  // root may do that
    r.version = rng() % 50 ? kVersion : static_cast<uint16_t>(rng());
    r.flags = rng() % 10 ? 0 : static_cast<uint32_t>(rng() % 4);
    r.handle = static_cast<uint32_t>(rng() % 12);
    std::string path = paths[rng() % std::size(paths)], path2 = paths[rng() % std::size(paths)];
    if (rng() % 20 == 0) path = std::string(rng() % 5000, 'p');
    uint32_t slot = static_cast<uint32_t>(rng() % kSlots);
    std::memcpy(liar->ring->bounce(slot), path.data(), path.size());
    std::memcpy(liar->ring->bounce(slot) + path.size(), path2.data(), path2.size());
    r.path1_len = static_cast<uint16_t>(rng() % 20 ? path.size() : rng());
    r.path2_len = static_cast<uint16_t>(takes_two(r.op) ? path2.size() : rng() % 30 ? 0 : rng());
    r.a0 = r.op == static_cast<uint16_t>(Op::kOpen) && rng() % 4 ? (O_RDWR | O_CREAT) : number();
    if (r.op >= static_cast<uint16_t>(Op::kSetXattr) && rng() % 4) r.a0 = rng() % 20;  // bytes of a name
    r.a1 = number();
    r.a2 = number();
    r.a3 = rng() % 4;
    r.a4 = number();
    if (rng() % 100 == 0) {  // plays with words that are the manager's
      liar->ring->header().agent_done.store(rng());
      liar->ring->slot(slot).state.store(static_cast<uint32_t>(rng()));
      liar->ring_bell();
      liar->ring->slot(slot).state.store(kFree);
    }
    refused += liar->ask(slot, r).err != 0;
  }
  CHECK(refused > n / 4);
  CHECK(refused < n);
  CHECK(honest->cmd("load m 4096") == "42");
  CHECK(honest->cmd("read f 0 65536").find("uniform 42") != std::string::npos);
  liar.reset();
  honest->kill(SIGKILL);
  const bool gone = m.all_gone();
  CAPTURE(m.server().sessions().size(), m.volume().space().blocks_reserved);
  CHECK(gone);
  CHECK(m.volume().space().blocks_deferred == 0);
  m.check_clean();
}

TEST_CASE("protocol errors are counted and a newer version is refused", "[fuzz]") {
  Manager m;
  UniqueFd fd = raw_socket(m.path());
  struct {
    ControlHeader h;
    uint64_t rest[4];
  } hello{{kMagic, kVersion + 1, static_cast<uint16_t>(Control::kHello), sizeof hello, 1}, {}};
  REQUIRE(send_control(fd.get(), std::as_bytes(std::span(&hello, 1))) == 0);
  ControlMessage reply;
  auto r = recv_control(fd.get(), &reply);
  REQUIRE(r.status == RecvStatus::kOk);
  CHECK(reply.type() == Control::kError);
}
