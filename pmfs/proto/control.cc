#include "pmfs/proto/control.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace pmfs::proto {

int send_control(int socket, std::span<const std::byte> bytes, std::span<const int> fds) {
  if (fds.size() > kMaxControlFds || bytes.size() < sizeof(ControlHeader)) return EINVAL;
  iovec iov{const_cast<std::byte*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxControlFds)] = {};
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  if (!fds.empty()) {
    msg.msg_control = control;
    msg.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  }
  for (;;) {
    if (sendmsg(socket, &msg, MSG_NOSIGNAL) >= 0) return 0;  // SEQPACKET: all or nothing
    if (errno == ECONNRESET) return EPIPE;  // closed with messages unread: gone all the same
    if (errno != EINTR) return errno;
  }
}

RecvResult recv_control(int socket, ControlMessage* out) {
  for (size_t i = 0; i < out->fd_count; ++i) out->fds[i].reset();
  out->size = out->fd_count = 0;
  iovec iov{out->bytes.data(), out->bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxControlFds)];
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof control;
  ssize_t n;
  do {
    n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return {RecvStatus::kAgain};
    if (errno == ECONNRESET) return {RecvStatus::kEof};
    return {RecvStatus::kError, errno};
  }
  // Own every fd before judging the message: whatever is refused must be closed.
  for (cmsghdr* c = CMSG_FIRSTHDR(&msg); c != nullptr; c = CMSG_NXTHDR(&msg, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      UniqueFd owned(fd);
      if (out->fd_count < kMaxControlFds) out->fds[out->fd_count++] = std::move(owned);
    }
  }
  auto refuse = [&](RecvStatus s) {
    for (auto& fd : out->fds) fd.reset();
    out->fd_count = 0;
    return RecvResult{s};
  };
  if ((msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return refuse(RecvStatus::kTruncated);
  if (n == 0 && out->fd_count == 0) return {RecvStatus::kEof};
  out->size = static_cast<size_t>(n);
  if (out->size < sizeof(ControlHeader)) return refuse(RecvStatus::kMalformed);
  const ControlHeader h = out->header();
  if (h.magic != kMagic || h.version != kVersion || h.bytes != out->size) return refuse(RecvStatus::kMalformed);
  return {RecvStatus::kOk};
}

int send_error(int socket, uint32_t seq, int err, const char* message) {
  ErrorReply r{};
  r.err = err;
  std::snprintf(r.message, sizeof r.message, "%s", message);
  return send_message(socket, Control::kError, seq, r);
}

}  // namespace pmfs::proto
