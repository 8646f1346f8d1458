// One control datagram with its file descriptors over a SOCK_SEQPACKET socket. Used by both sides.
//
// recv_control() checks what every message must satisfy (magic, version, the byte count, at most kMaxControlFds
// fds); what a type demands (its size, its fds) the caller asks with as<T>() and fds. All received fds are
// close-on-exec and close themselves unless moved out, so an unexpected fd never leaks.
//
// Nothing here blocks on a non-blocking socket (EAGAIN / kAgain) or raises SIGPIPE.
#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

#include "pmfs/base/unique_fd.h"
#include "pmfs/proto/protocol.h"

namespace pmfs::proto {

inline constexpr size_t kMaxControlBytes = 512;
inline constexpr size_t kMaxControlFds = 8;

enum class RecvStatus {
  kOk,
  kEof,        // the peer closed
  kAgain,      // non-blocking socket: nothing there
  kTruncated,  // more bytes or fds than any message has
  kMalformed,  // not a message of this protocol and version
  kError,      // the socket failed: err
};

struct ControlMessage {
  alignas(8) std::array<std::byte, kMaxControlBytes> bytes;
  size_t size = 0;
  std::array<UniqueFd, kMaxControlFds> fds;
  size_t fd_count = 0;

  ControlHeader header() const {
    ControlHeader h;
    std::memcpy(&h, bytes.data(), sizeof h);
    return h;
  }
  Control type() const { return static_cast<Control>(header().type); }
  // A copy as a T, if the message is of that type, exactly of T's size and carries `fd_count` fds.
  template <class T>
  std::optional<T> as(Control type, size_t fds_wanted = 0) const {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kMaxControlBytes);
    if (header().type != static_cast<uint16_t>(type) || size != sizeof(T) || fd_count != fds_wanted) return {};
    T t;
    std::memcpy(&t, bytes.data(), sizeof t);
    return t;
  }
};

struct RecvResult {
  RecvStatus status;
  int err = 0;  // for kError
};

// Returns 0 or an errno (EPIPE: the peer is gone; EAGAIN). `bytes` begins with a ControlHeader.
int send_control(int socket, std::span<const std::byte> bytes, std::span<const int> fds = {});
RecvResult recv_control(int socket, ControlMessage* out);

// Fills the header of `message` (any struct that begins with a ControlHeader h, or a ControlHeader) and sends it.
template <class T>
int send_message(int socket, Control type, uint32_t seq, T message, std::span<const int> fds = {}) {
  static_assert(std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T> && sizeof(T) <= kMaxControlBytes);
  const ControlHeader h{kMagic, kVersion, static_cast<uint16_t>(type), sizeof(T), seq};
  std::memcpy(&message, &h, sizeof h);
  return send_control(socket, std::as_bytes(std::span(&message, 1)), fds);
}
inline int send_message(int socket, Control type, uint32_t seq) {
  return send_message(socket, type, seq, ControlHeader{});
}
int send_error(int socket, uint32_t seq, int err, const char* message);

}  // namespace pmfs::proto
