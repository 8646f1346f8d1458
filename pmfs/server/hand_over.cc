#include "pmfs/server/hand_over.h"

#include <cstring>
#include <string>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/sys.h"
#include "pmfs/fs/volume.h"
#include "pmfs/proto/control.h"

namespace pmfs::server {

using namespace proto;

namespace {

constexpr useconds_t kLookUs = 5000;

UniqueFd connect_to(const std::filesystem::path& volume) {
  UniqueFd dir(::open(volume.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!dir) fail(errno, "volume {}: can't open the directory: {}", volume.string(), std::strerror(errno));
  UniqueFd s(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!s) fail(errno, "take over {}: no socket", volume.string());
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  fmt::format("/proc/self/fd/{}/{}", dir.get(), kSocketName).copy(a.sun_path, sizeof a.sun_path - 1);
  if (::connect(s.get(), reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0) return s;
  const int err = errno;
  if (err == ENOENT || err == ECONNREFUSED)
    fail(err, "take over {}: no manager serves it; leave --takeover out", volume.string());
  fail(err, "take over {}: can't connect to its manager: {}", volume.string(), std::strerror(err));
}

// False: nothing came in time.
bool wait_readable(int fd, int64_t deadline_ns) {
  for (;;) {
    const int64_t left = (deadline_ns - sys().monotonic_ns()) / 1'000'000;
    pollfd p{fd, POLLIN, 0};
    const int n = ::poll(&p, 1, left > 0 ? static_cast<int>(left) + 1 : 0);
    if (n > 0) return true;
    if (n == 0 && left <= 0) return false;
  }
}

std::string pid_of(int socket) {
  ucred peer{};
  socklen_t bytes = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 ? std::to_string(peer.pid) : "?";
}

}  // namespace

void take_over(const std::filesystem::path& volume, double seconds) {
  const auto bound = static_cast<int64_t>(seconds * 1e9);
  const UniqueFd s = connect_to(volume);
  const std::string pid = pid_of(s.get());
  if (int err = send_message(s.get(), Control::kHandOver, 1))
    fail(err, "take over {}: its manager can't be asked: {}", volume.string(), std::strerror(err));
  int64_t deadline = sys().monotonic_ns() + bound;
  if (!wait_readable(s.get(), deadline))
    fail(ETIMEDOUT, "take over {}: its manager, process {}, does not answer; kill it (kill -9 {}) and serve the volume: its "
         "clients come back then too", volume.string(), pid, pid);
  ControlMessage m;
  const RecvResult r = recv_control(s.get(), &m);
  if (r.status == RecvStatus::kOk) {
    if (auto e = m.as<ErrorReply>(Control::kError)) {
      e->message[sizeof e->message - 1] = '\0';
      fail(e->err != 0 ? e->err : EPROTO, "take over {}: {}", volume.string(), e->message);
    }
  }
  // An end without an answer is the end of it as well; anything else is not a manager we understand.
  if (r.status != RecvStatus::kEof && (r.status != RecvStatus::kOk || m.type() != Control::kOk))
    fail(EPROTO, "take over {}: process {} does not speak this protocol", volume.string(), pid);
  deadline = sys().monotonic_ns() + bound;
  for (;;) {
    try {
      lock_volume(volume);
      return;
    } catch (const Error& e) {
      if (e.err() != EBUSY) throw;
    }
    if (sys().monotonic_ns() > deadline)
      fail(ETIMEDOUT, "take over {}: process {} has agreed but does not end; kill it (kill -9 {}) and serve the volume",
           volume.string(), pid, pid);
    ::usleep(kLookUs);
  }
}

}  // namespace pmfs::server
