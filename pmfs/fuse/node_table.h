// NodeTable: the inodes that the kernel knows of through the FUSE mount. A node's number is its inode number, and as
// long as the kernel has looked it up more often than it forgot it, the number means that inode: a file is kept by a
// reference, anything else by a pin. So a request never meets another inode under an old number.
//
// mutex_ (LockRank::kSessionFiles): nothing is called with it held.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "pmfs/base/mutex.h"
#include "pmfs/fs/inode_ref.h"

namespace pmfs::fuse {

class NodeTable {
 public:
  explicit NodeTable(MountedVolume& v) : volume_(v) {}
  ~NodeTable();  // forgets them all
  // Looks the name up and counts the lookup; none if there is no such name. ENOENT: no such directory; ENOTDIR, ENAMETOOLONG.
  std::optional<Ino> find(Ino dir, std::string_view name);
  Ino lookup(Ino dir, std::string_view name);  // ENOENT if there is none
  void forget(Ino ino, uint64_t lookups);
  // A file that the kernel knows. EISDIR: it is a directory; EINVAL: something else.
  InodeRef file(Ino ino);
  // A file that it knows, of more than 1 MiB of blocks.
  bool large(Ino ino);

 private:
  struct Node {
    uint64_t lookups = 0;
    InodeRef file;        // or
    bool pinned = false;
  };
  Node hold(Ino ino);
  void release(Ino ino, Node&& n);

  MountedVolume& volume_;
  Mutex mutex_{LockRank::kSessionFiles, "fuse nodes"};
  std::unordered_map<uint64_t, Node> nodes_ GUARDED_BY(mutex_);
};

}  // namespace pmfs::fuse
