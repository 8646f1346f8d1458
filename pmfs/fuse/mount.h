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
#include <vector>

#include "pmfs/fuse/node_table.h"

struct fuse_session;

namespace pmfs::fuse {

struct MountOptions {
  std::string dir;                   // where; an empty directory, as a rule
  std::vector<std::string> options;  // mount options for libfuse and the kernel: "allow_other", "ro", ...
  unsigned threads = 4;
};

class Mount {
 public:
  // Mounts and serves. A place where a manager that died is still mounted is unmounted first. Throws Error: ENOENT,
  // ENOTDIR; EINVAL: an option nobody knows; EPERM, EIO: what libfuse could not do is said on stderr by itself.
  // `on_end` is called by a thread of the mount's when it is gone by somebody else's hand (umount).
  Mount(MountedVolume& volume, const MountOptions& o, std::function<void()> on_end);
  ~Mount();  // unmounts (lazily where it is busy) and waits for the requests under way
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

  MountedVolume& volume() { return volume_; }
  NodeTable& nodes() { return nodes_; }

 private:
  void loop();
  MountedVolume& volume_;
  const MountOptions options_;
  NodeTable nodes_;
  const std::function<void()> on_end_;
  std::atomic<bool> stopping_{false};
  fuse_session* session_ = nullptr;
  std::thread loop_;
};

}  // namespace pmfs::fuse
