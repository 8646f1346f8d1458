#include "tools/pmfs/notify.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include <spdlog/spdlog.h>

#include "pmfs/base/unique_fd.h"

namespace pmfs::cli {

void tell_systemd(const char* state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || *path == 0) return;
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  const size_t length = std::strlen(path);
  if (length >= sizeof to.sun_path) {
    spdlog::warn("NOTIFY_SOCKET={}: is longer than the name of a socket can be", path);
    return;
  }
  std::memcpy(to.sun_path, path, length);
  if (path[0] == '@') to.sun_path[0] = 0;  // an abstract name
  const UniqueFd s(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  if (::sendto(s.get(), state, std::strlen(state), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&to), bytes) < 0) {
    spdlog::warn("NOTIFY_SOCKET={}: {}", path, std::strerror(errno));
  }
}

}  // namespace pmfs::cli
