// Mount: a mounted volume at a place in the kernel's tree, through libfuse's low-level interface.
//
// The kernel checks permissions (default_permissions). It caches no data (direct I/O), no names and no attributes: native
// clients change files beside it, and what it reads and writes are the very blocks that they have mapped. A shared mmap of
// a file on the mount is refused by the kernel (ENODEV): direct mappings are libpmfs's.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "pmfs/fuse/mount_options.h"
#include "pmfs/fuse/node_table.h"

struct fuse_session;

namespace pmfs::fuse {

class Mount {
 public:
  // Mounts and serves. A place where a manager that died is still mounted is unmounted first. Throws Error: ENOENT,
  // ENOTDIR; EINVAL: an option nobody knows (see mount_options.h); EPERM, EIO: what libfuse could not do is said on stderr by itself.
  // `on_end` is called by a thread of the mount's when it is gone by somebody else's hand (umount).
  Mount(MountedVolume& volume, const MountOptions& o, std::function<void()> on_end);
  // Waits for the requests under way and unmounts, busy or not: what is open there says ENOTCONN from now on.
  ~Mount();
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

  MountedVolume& volume() { return volume_; }
  NodeTable& nodes() { return nodes_; }

 private:
  void loop();
  MountedVolume& volume_;
  const ParsedOptions options_;
  NodeTable nodes_;
  const std::function<void()> on_end_;
  std::atomic<bool> stopping_{false}, loop_done_{false};
  fuse_session* session_ = nullptr;
  std::thread loop_;
};

}  // namespace pmfs::fuse
