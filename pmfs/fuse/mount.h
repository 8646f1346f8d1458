// Mount: a mounted volume at a place in the kernel's tree, through libfuse's low-level interface.
//
// The kernel checks permissions (default_permissions). It caches no data (direct I/O): what it reads and writes are the very
// blocks that native clients have mapped. Names and attributes it may believe for a moment, while nobody but the mount
// changes files (pmfs/fs/leases.h). A shared mmap of a file on the mount is refused by the kernel (ENODEV): direct mappings
// are libpmfs's.
#pragma once

#include <functional>
#include <string>

#include "pmfs/fuse/leased_nodes.h"
#include "pmfs/fuse/mount_options.h"
#include "pmfs/fuse/node_table.h"
#include "pmfs/fuse/request_loop.h"

struct fuse_session;

namespace pmfs::fuse {

class Mount final : private Leases::Holder {
 public:
  // Mounts and serves. A place where a manager that died is still mounted is unmounted first. Throws Error: ENOENT,
  // ENOTDIR; EINVAL: an option nobody knows (see mount_options.h); EACCES, ENOENT: halt_poll=always, and it can't be; EPERM,
  // EIO: what libfuse could not do is said on stderr by itself.
  // `on_end` is called by a thread of the mount's when it is gone by somebody else's hand (umount).
  Mount(MountedVolume& volume, const MountOptions& o, std::function<void()> on_end);
  // Waits for the requests under way and unmounts, busy or not: what is open there says ENOTCONN from now on.
  ~Mount() override;
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

  MountedVolume& volume() { return volume_; }
  NodeTable& nodes() { return nodes_; }
  LeasedNodes& leased() { return leased_; }
  RequestLoop& loop() { return loop_; }
  // The kernel asks for the attributes when it needs them next. Allowed inside of a request.
  void forget_attributes(Ino ino);

 private:
  void take_back() override;
  MountedVolume& volume_;
  const ParsedOptions options_;
  NodeTable nodes_;
  LeasedNodes leased_;
  fuse_session* session_ = nullptr;
  RequestLoop loop_{options_.halt_poll};
};

}  // namespace pmfs::fuse
