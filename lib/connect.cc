#include "lib/connect.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "pmfs/base/error.h"
#include "pmfs/base/unit.h"
#include "pmfs/proto/control.h"
#include "pmfs/proto/ring.h"

namespace pmfs {
namespace {

UniqueFd connect_socket(int dir, const std::string& volume, Access access, bool by_dir) {
  UniqueFd s(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!s) fail(errno, "can't create a socket; out of file descriptors?");
  sockaddr_un addr{};
  addr.sun_family = AF_UNIX;
  std::string path = volume + "/" + socket_name(access);
  if (by_dir || path.size() >= sizeof addr.sun_path) path = fmt::format("/proc/self/fd/{}/{}", dir, socket_name(access));
  std::memcpy(addr.sun_path, path.c_str(), path.size() + 1);
  int r;
  do {
    r = connect(s.get(), reinterpret_cast<const sockaddr*>(&addr), sizeof addr);
  } while (r != 0 && errno == EINTR);
  if (r == 0) return s;
  const int err = errno;
  if ((err == ENOENT || err == ECONNREFUSED) && access == Access::kReadOnly) {
    fail(err, "no manager lets read-only clients in to the volume {}; start one with: pmfs serve {} --read-only-socket-mode 0666", volume, volume);
  }
  if (err == ENOENT || err == ECONNREFUSED) {
    fail(err, "no manager serves the volume {}; start one with: pmfs serve {}", volume, volume);
  }
  fail(err, "can't connect to the manager of the volume {}", volume);
}

// The next message, which must be of the given type; an error reply is thrown.
proto::ControlMessage receive(int socket, const std::string& volume, proto::Control want) {
  proto::ControlMessage m;
  const proto::RecvResult r = proto::recv_control(socket, &m);
  if (r.status == proto::RecvStatus::kEof) fail(ENOTCONN, "the manager of {} closed the connection", volume);
  if (r.status == proto::RecvStatus::kError) fail(r.err, "can't receive from the manager of {}", volume);
  if (r.status != proto::RecvStatus::kOk) {
    fail(EPROTO, "the manager of {} speaks another protocol; use library and manager of one version", volume);
  }
  if (auto e = m.as<proto::ErrorReply>(proto::Control::kError)) {
    e->message[sizeof e->message - 1] = '\0';
    fail(e->err != 0 ? e->err : EPROTO, "{}", e->message);
  }
  if (m.type() != want) fail(EPROTO, "the manager of {} sent an unexpected message {}", volume, m.header().type);
  return m;
}

UniqueFd make_uffd(const UniqueFd& from, const proto::HelloReply& hello) {
  UniqueFd fd;
  if (hello.uffd_is_device != 0) {
    fd.reset(ioctl(from.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
    if (!fd) fail(errno, "can't create a userfaultfd from the manager's /dev/userfaultfd");
  } else {
    fd.reset(fcntl(from.get(), F_DUPFD_CLOEXEC, 0));
    if (!fd) fail(errno, "can't duplicate the userfaultfd");
  }
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = hello.uffd_features;
  if (ioctl(fd.get(), UFFDIO_API, &api) != 0) {
    fail(errno, "this kernel's userfaultfd lacks a feature the manager needs ({:#x})", hello.uffd_features);
  }
  return fd;
}

void check(const proto::HelloReply& h, const std::string& volume) {
  if (h.block_size % kBlockSize != 0 || !Unit::possible(h.block_size / kBlockSize) || h.slots != proto::kSlots || h.agent_slots != proto::kAgentSlots ||
      h.bounce_bytes != proto::kBounceBytes || h.ring_bytes != proto::RingLayout::kBytes) {
    fail(EPROTO, "the manager of {} uses another ring layout; use library and manager of one version", volume);
  }
  // Without it a moved mapping would lose its registration, and the kernel would resolve its faults on its own.
  if ((h.uffd_features & UFFD_FEATURE_EVENT_REMAP) == 0) {
    fail(EPROTO, "the manager of {} did not ask for UFFD_FEATURE_EVENT_REMAP", volume);
  }
}

}  // namespace

const char* socket_name(Access access) { return access == Access::kReadOnly ? proto::kReadOnlySocketName : proto::kSocketName; }

uint64_t sentinel_mode(const proto::HelloReply& hello) {
  constexpr uint64_t kZeros = UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP;  // what it may show of holes, and a store to that
  return UFFDIO_REGISTER_MODE_MISSING | (hello.acked != 0 ? kZeros : 0);
}

UniqueFd open_volume_dir(const std::string& volume) {
  UniqueFd dir(open(volume.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!dir) fail(errno, "can't open the volume directory {}", volume);
  return dir;
}

void fail_gone(const std::string& volume) {
  fail(ENOTCONN, "the manager of the volume {} is gone; start it again: pmfs serve {}", volume, volume);
}

Connection connect_manager(int dir, const std::string& volume, Access access, uint64_t token, uint64_t flags) {
  Connection c;
  c.socket = connect_socket(dir, volume, access, token != 0 || flags != 0);
  proto::HelloRequest hello{};
  hello.fork_token = token;
  hello.flags = flags;
  if (const int err = proto::send_message(c.socket.get(), proto::Control::kHello, 1, hello); err != 0) {
    fail(err, "can't greet the manager of {}", volume);
  }
  proto::ControlMessage m = receive(c.socket.get(), volume, proto::Control::kWelcome);
  const auto reply = m.as<proto::HelloReply>(proto::Control::kWelcome, proto::kWelcomeFds);
  if (!reply) fail(EPROTO, "the manager of {} sent a bad welcome", volume);
  c.hello = *reply;
  check(c.hello, volume);
  const UniqueFd uffd_source = std::move(m.fds[0]);
  c.region = std::move(m.fds[1]);
  c.ring = std::move(m.fds[2]);
  c.doorbell = std::move(m.fds[3]);
  c.sigbus = std::move(m.fds[4]);
  c.life = std::move(m.fds[5]);
  c.uffd = make_uffd(uffd_source, c.hello);
  const int uffd = c.uffd.get();
  if (const int err = proto::send_message(c.socket.get(), proto::Control::kUffd, 2, proto::ControlHeader{},
                                          std::span(&uffd, 1));
      err != 0) {
    fail(err, "can't hand the userfaultfd to the manager of {}", volume);
  }
  receive(c.socket.get(), volume, proto::Control::kOk);
  return c;
}

}  // namespace pmfs
