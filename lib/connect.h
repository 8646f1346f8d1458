// Connecting to the manager of a volume: socket, Hello/Welcome, and the userfaultfd hand-over.
#pragma once

#include <cstdint>
#include <string>

#include "pmfs/base/unique_fd.h"
#include "pmfs/pmfs.hpp"
#include "pmfs/proto/protocol.h"

namespace pmfs {

// What connecting yields. Every fd is close-on-exec. The userfaultfd is a duplicate of the manager's: it must stay
// open as long as the process lives, since the last close of it would turn faults into silent zero pages; with it,
// a manager that died makes faults wait.
struct Connection {
  UniqueFd socket, uffd, region, ring, doorbell, sigbus;
  UniqueFd life;  // a lock that says that we live, until its last copy is closed
  proto::HelloReply hello{};
};

// UFFDIO_REGISTER_MODE_ bits of a sentinel's VMAs.
uint64_t sentinel_mode(const proto::HelloReply& hello);

const char* socket_name(Access access);  // in the volume's directory

// Opens the volume's directory (kept, so that a fork finds the socket again after chdir). Throws ENOENT, ENOTDIR...
UniqueFd open_volume_dir(const std::string& volume);

// token: 0, or from Op::kForkPrepare in the parent. flags: proto::kHelloReattach, or 0. Throws Error: ENOENT or ECONNREFUSED
// (no manager), EACCES, EPROTO.
Connection connect_manager(int dir, const std::string& volume, Access access, uint64_t token, uint64_t flags = 0);

// The error for a session whose manager is gone.
[[noreturn]] void fail_gone(const std::string& volume);

}  // namespace pmfs
