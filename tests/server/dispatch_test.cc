// Requests in the ring: each field is checked, an error has its errno and a sentence, and one slot's trouble is not
// another's.
#include <cstring>
#include <limits>
#include <thread>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "pmfs/base/pause.h"
#include "tests/server/server_fixture.h"
#include "tests/support/touch.h"

using namespace pmfs;
using namespace pmfs::proto;
using namespace pmfs::test;

namespace {

Request request(Op op, uint32_t handle = 0, uint64_t a0 = 0, uint64_t a1 = 0, uint64_t a2 = 0, uint64_t a3 = 0) {
  Request r{};
  r.op = static_cast<uint16_t>(op);
  r.version = kVersion;
  r.handle = handle;
  r.a0 = a0;
  r.a1 = a1;
  r.a2 = a2;
  r.a3 = a3;
  return r;
}

struct Client : ServerFixture, RawClient {
  uint32_t file, read_only;
  Client() : RawClient(path) {
    file = RawClient::ask(Op::kOpen, "/f", O_RDWR | O_CREAT, 0644).handle;
    read_only = RawClient::ask(Op::kOpen, "/f", O_RDONLY).handle;
  }
};

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

}  // namespace

TEST_CASE("what no client of this version sends is EPROTO and counted") {
  Client c;
  Request old = request(Op::kNop);
  old.version = kVersion + 1;
  CHECK(c.ask(0, old).err == EPROTO);
  Request flags = request(Op::kNop);
  flags.flags = 0x80;
  CHECK(c.ask(0, flags).err == EPROTO);
  CHECK(c.ask(0, request(Op::kRead, c.file, 0, kBounceBytes + 1)).err == EPROTO);
  CHECK(c.ask(0, request(Op::kWrite, c.file, 0, 1, 2)).err == EPROTO);
  Request lonely = request(Op::kStat);
  lonely.path2_len = 1;
  CHECK(c.ask(0, lonely).err == EPROTO);
  CHECK(c.ask(0, request(static_cast<Op>(60000))).err == ENOSYS);
  WireCounters counters;
  CHECK(c.RawClient::ask(Op::kCounters).err == 0);
  std::memcpy(&counters, c.ring->bounce(0), sizeof counters);
  CHECK(counters.protocol_errors == 5);
}

TEST_CASE("handles: none, closed, opened for the other thing") {
  Client c;
  CHECK(c.ask(0, request(Op::kStat, 999)).err == EBADF);
  const Reply r = c.ask(3, request(Op::kWrite, c.read_only, 0, 1));
  CHECK(r.err == EBADF);
  CHECK(c.message(3, r).find("writing") != std::string::npos);
  CHECK(c.ask(0, request(Op::kTruncate, c.read_only, 1)).err == EBADF);
  CHECK(c.ask(0, request(Op::kClose, c.read_only)).err == 0);
  CHECK(c.ask(0, request(Op::kClose, c.read_only)).err == EBADF);
  CHECK(c.ask(0, request(Op::kWrite, c.file, 0, 1)).err == 0);  // the other one is as it was
}

TEST_CASE("map: every odd address, offset, length and protection has its errno, and leaves no mapping") {
  Client c;
  constexpr uint64_t kVa = uint64_t{1} << 32;
  CHECK(c.ask(0, request(Op::kMap, c.file, kVa + 1, 0, kBlockSize, PROT_READ)).err == EINVAL);
  CHECK(c.ask(0, request(Op::kMap, c.file, kVa, 1, kBlockSize, PROT_READ)).err == EINVAL);
  CHECK(c.ask(0, request(Op::kMap, c.file, kVa, 0, 0, PROT_READ)).err == EINVAL);
  CHECK(c.ask(0, request(Op::kMap, c.file, uint64_t{1} << 47, 0, kBlockSize, PROT_READ)).err == EINVAL);
  CHECK(c.ask(0, request(Op::kMap, c.file, kVa, 0, kMax & ~(kBlockSize - 1), PROT_READ)).err == EINVAL);
  CHECK(c.ask(0, request(Op::kMap, c.file, kVa, kMax & ~(kBlockSize - 1), kBlockSize, PROT_READ)).err == EOVERFLOW);
  CHECK(c.ask(0, request(Op::kMap, c.file, kVa, 0, kBlockSize, PROT_READ | PROT_EXEC)).err == EINVAL);
  CHECK(c.ask(0, request(Op::kMap, c.read_only, kVa, 0, kBlockSize, PROT_READ | PROT_WRITE)).err == EACCES);
  CHECK(c.ask(0, request(Op::kUnmap, 0, 1)).err == EINVAL);
  CHECK(c.server->sessions().at(0)->client().mappings().empty());
}

// What the sentinel is for: it says how long the file is. Sent once by a handle, it is that of the handle's mappings, though the one
// of a former mapping was sent: the manager still knew it from a command that had not been answered.
TEST_CASE("a mapping has the sentinel that its handle was sent, when nothing else keeps it any more") {
  Client c;
  REQUIRE(c.ask(0, request(Op::kClose, c.read_only)).err == 0);
  const uint64_t va = uint64_t{1} << 40, length = 4 * kBlockSize;
  const auto sent = [&](uint32_t handle) {
    SentinelRequest r{};
    r.handle = handle;
    ControlMessage m;
    REQUIRE(send_message(c.socket.get(), Control::kSentinel, 9, r) == 0);
    REQUIRE(recv_control(c.socket.get(), &m).status == RecvStatus::kOk);
    REQUIRE(m.type() == Control::kSentinelFd);
    return std::move(m.fds[0]);
  };
  const auto size = [](const UniqueFd& fd) {
    struct stat st {};
    return ::fstat(fd.get(), &st) == 0 ? st.st_size : -1;
  };
  const auto map = [&](uint32_t handle, const UniqueFd& fd) {
    Request r = request(Op::kMap, handle, va, 0, length, PROT_READ | PROT_WRITE);
    r.a4 = static_cast<uint64_t>(fd.get());
    return c.ask(0, r);
  };
  const auto session = c.server->sessions().at(0);
  REQUIRE(c.ask(0, request(Op::kWrite, c.file, 0, kBlockSize)).err == 0);  // so there is something to map ahead: a command
  {
    const UniqueFd first = sent(c.file);
    const Reply mapped = map(c.file, first);
    REQUIRE(mapped.err == 0);
    REQUIRE(c.ask(0, request(Op::kUnmap, 0, mapped.v0)).err == 0);
    REQUIRE(c.ask(0, request(Op::kClose, c.file)).err == 0);
  }
  REQUIRE(session->agent_queue() == 1);
  const uint32_t again = c.RawClient::ask(Op::kOpen, "/f", O_RDWR).handle;
  const UniqueFd fd = sent(again);
  CHECK(size(fd) == kBlockSize);
  c.ring->header().agent_done.store(c.ring->header().agent_posted.load());  // answered: the former mapping is gone for good
  c.ring_bell();
  for (int i = 0; i < 4000 && session->agent_queue() != 0; ++i) ::usleep(1000);
  REQUIRE(session->agent_queue() == 0);
  REQUIRE(map(again, fd).err == 0);
  CHECK(c.ask(0, request(Op::kTruncate, again, 3 * kBlockSize)).err == 0);
  CHECK(size(fd) == 3 * kBlockSize);
}

namespace {

// A page that its userfaultfd watches, as a client places it before the manager knows of the mapping.
struct Placed {
  UniqueFd memfd{::memfd_create("placed", MFD_CLOEXEC)};
  volatile char* p;
  explicit Placed(RawClient& c) {
    REQUIRE(::ftruncate(memfd.get(), kBlockSize) == 0);
    p = static_cast<char*>(::mmap(nullptr, kBlockSize, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0));
    uffdio_register reg{};
    reg.range = {address(), kBlockSize};
    reg.mode = UFFDIO_REGISTER_MODE_MISSING;
    REQUIRE(::ioctl(c.uffd.get(), UFFDIO_REGISTER, &reg) == 0);
  }
  ~Placed() { ::munmap(const_cast<char*>(p), kBlockSize); }
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;
  uint64_t address() const { return reinterpret_cast<uint64_t>(p); }
};

}  // namespace

TEST_CASE("a touch where no mapping is known of ends with SIGBUS") {
  Client c;
  Placed page(c);
  CHECK(touch(page.p) == SIGBUS);
}

#ifdef PMFS_PAUSE_POINTS
TEST_CASE("a fault that was too late for its mapping does no harm to the one that comes next to its address") {
  Client c;
  REQUIRE(c.ask(0, request(Op::kTruncate, c.file, kBlockSize)).err == 0);
  Placed page(c);
  pause::Gate stray("fault:stray");
  std::atomic<int> came_to{-1};
  std::thread touching([&] { came_to = touch(page.p); });
  CHECK(stray.wait_arrived());
  CHECK(c.ask(0, request(Op::kMap, c.file, page.address(), 0, kBlockSize, PROT_READ)).err == 0);
  stray.release();
  // It faults again, and now somebody is to map a block there. There is no agent; we do it.
  for (int i = 0; i < 4000 && c.ring->header().agent_posted.load() == 0 && came_to.load() < 0; ++i) ::usleep(1000);
  CHECK(c.ring->header().agent_posted.load() == 1);
  alignas(kBlockSize) static const char zeros[kBlockSize] = {};
  uffdio_copy copy{};
  copy.dst = page.address();
  copy.src = reinterpret_cast<uint64_t>(zeros);
  copy.len = kBlockSize;
  ::ioctl(c.uffd.get(), UFFDIO_COPY, &copy);
  touching.join();
  CHECK(came_to == 0);
}
#endif

TEST_CASE("offsets and lengths at the edge of 64 bits") {
  Client c;
  CHECK(c.ask(0, request(Op::kTruncate, c.file, kMax)).err == EFBIG);
  CHECK(c.ask(0, request(Op::kPunch, c.file, kMax - 1, 2)).err == EFBIG);
  CHECK(c.ask(0, request(Op::kPunch, c.file, 0, 0)).err == EINVAL);
  CHECK(c.ask(0, request(Op::kZeroRange, c.file, 4096, kMax)).err == EFBIG);
  CHECK(c.ask(0, request(Op::kPreallocate, c.file, 0, kMax)).err == EFBIG);
  CHECK(c.ask(0, request(Op::kPreallocate, c.file, 0, uint64_t{1} << 40)).err == ENOSPC);
  CHECK(c.ask(0, request(Op::kWrite, c.file, kMax - 4095, 4096)).err == EFBIG);
  CHECK(c.ask(0, request(Op::kRead, c.file, kMax - 4095, 4096)).v0 == 0);
  CHECK(c.ask(0, request(Op::kExtents, c.file, kMax)).err == EINVAL);
  CHECK(c.RawClient::ask(Op::kStat, "/f").attr.size == 0);
}

TEST_CASE("an open with flags that are not supported says which") {
  Client c;
  const Reply r = c.RawClient::ask(Op::kOpen, "/g", O_RDWR | O_CREAT | O_DIRECTORY, 0644);
  CHECK(r.err == EINVAL);
  CHECK(c.message(0, r).find("flags") != std::string::npos);
  CHECK(c.RawClient::ask(Op::kOpen, "/g", O_ACCMODE).err == EINVAL);
  CHECK(c.RawClient::ask(Op::kStat, "/g").err == ENOENT);  // nothing was made
}

TEST_CASE("several slots at once: each request is answered in its own") {
  Client c;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (uint32_t slot = 0; slot < 8; ++slot) {
    threads.emplace_back([&, slot] {
      for (uint64_t i = 0; i < 200; ++i) {
        const Reply written = c.ask(slot, request(Op::kWrite, c.file, (slot * 200 + i) * 8, 8));
        if (written.err != 0 || written.v1 != (slot * 200 + i) * 8) ++wrong;
        if (c.ask(slot, request(Op::kStat, 999)).err != EBADF) ++wrong;
      }
    });
  }
  for (auto& t : threads) t.join();
  CHECK(wrong == 0);
  CHECK(c.RawClient::ask(Op::kStat, "/f").attr.size == 8 * 200 * 8);
}
