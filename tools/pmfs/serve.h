// The manager in this process, for `pmfs serve` and `pmfs mount`.
#pragma once

#include <optional>
#include <string>

#include "pmfs/fuse/mount.h"
#include "pmfs/server/server.h"

namespace pmfs::cli {

struct ServeOptions {
  server::ServerOptions server;
  fuse::MountOptions mount;  // dir empty: not mounted
  std::string dir, socket_mode = "0600", read_only_socket_mode;  // empty: no such socket
  int ready_fd = -1;
  bool takeover = false;
  double takeover_timeout = 30;
  std::optional<unsigned> jitter;
  bool verbose = false;
  std::string log;  // a file, appended to; empty: standard error
};

// Waits, `seconds` at most, until no manager has the volume; whether that is so. Throws Error if it can't be looked at.
bool wait_for_end(const std::string& volume, double seconds);
// The manager of a volume that was unmounted just now is still about to end: umount(8) does not always ask us to wait for it
// (it takes the type of a file system from statfs, "fuse", if it can). One that goes on is refused by who takes the lock.
void let_it_end(const std::string& volume);

// Until it is told to stop, or unmounted. Throws UsageError, Error.
void run_manager(ServeOptions& o);

}  // namespace pmfs::cli
