// Fuzzes the decoders of control messages: any datagram with any fds, through a real socket.
#include <cstdio>
#include <cstdlib>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pmfs/proto/control.h"

using namespace pmfs;
using namespace pmfs::proto;

namespace {

struct Sockets {
  UniqueFd client, manager, extra;
  Sockets() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) std::abort();
    client = UniqueFd(ends[0]);
    manager = UniqueFd(ends[1]);
    extra = UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  }
};

template <class T>
void decode(const ControlMessage& m, Control type, size_t fds) {
  const auto t = m.as<T>(type, fds);
  if (t && (m.size != sizeof(T) || m.header().bytes != sizeof(T) || m.fd_count != fds || m.type() != type)) {
    std::fprintf(stderr, "FINDING: a message was taken for one that it is not\n");
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  static Sockets s;
  if (bytes == 0) return 0;
  // The first byte: how many fds, and whether the header is made right.
  const size_t fd_count = data[0] % 11;
  std::byte message[1024];
  const size_t n = std::min(bytes - 1, sizeof message);
  std::memcpy(message, data + 1, n);
  if ((data[0] & 0x80) != 0 && n >= sizeof(ControlHeader)) {
    ControlHeader h;
    std::memcpy(&h, message, sizeof h);
    h.magic = kMagic;
    h.version = kVersion;
    h.type %= 14;
    if ((data[0] & 0x40) != 0) h.bytes = static_cast<uint32_t>(n);
    std::memcpy(message, &h, sizeof h);
  }
  int fds[11];
  for (int& fd : fds) fd = s.extra.get();
  const int before = ::dup(s.extra.get());
  ::close(before);
  if (send_control(s.client.get(), {message, n}, {fds, std::min<size_t>(fd_count, kMaxControlFds)}) != 0) return 0;
  {
    ControlMessage m;
    const RecvResult r = recv_control(s.manager.get(), &m);
    if (r.status == RecvStatus::kOk) {
      decode<HelloRequest>(m, Control::kHello, m.fd_count);
      decode<ControlHeader>(m, Control::kUffd, 1);
      decode<SentinelRequest>(m, Control::kSentinel, 0);
      decode<ReattachFile>(m, Control::kReattachFile, 0);
      decode<ReattachMap>(m, Control::kReattachMap, 0);
      decode<ControlHeader>(m, Control::kReattachDone, 0);
      decode<ControlHeader>(m, Control::kHandOver, 0);
      decode<HelloReply>(m, Control::kWelcome, kWelcomeFds);
      decode<ErrorReply>(m, Control::kError, 0);
    } else if (m.fd_count != 0) {
      std::fprintf(stderr, "FINDING: a refused message has descriptors\n");
      std::abort();
    }
  }
  const int after = ::dup(s.extra.get());
  ::close(after);
  if (after != before) {
    std::fprintf(stderr, "FINDING: a descriptor was left open\n");
    std::abort();
  }
  return 0;
}
