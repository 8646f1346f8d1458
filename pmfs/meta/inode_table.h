// ino -> inode in O(1): three levels of pages, made as inos are first used; freed inos on a list. The orphan
// list (inodes without a name) is threaded through the inodes too.
//
// Not thread-safe (meta mutex). Members that change something must be called in a transaction.
#pragma once

#include <vector>

#include "pmfs/meta/media.h"

namespace pmfs::meta {

class InodeTable {
 public:
  explicit InodeTable(Media& m) : m_(m) {}

  void format();                                            // the empty table and the root directory
  InodeMedia* find(Ino ino) const;                          // nullptr: no such inode
  InodeMedia* get(Ino ino) const;                           // ENOENT
  InodeMedia* slot(uint64_t n) const;                       // whatever its state; nullptr: never used
  persistent_ptr<InodePage>* leaf_entry(uint64_t n) const;  // the pointer to n's chunk; nullptr: no page for it
  Ino allocate(uint32_t mode, uint32_t uid, uint32_t gid);  // nlink 0, snapshotted
  void free(Ino ino);
  uint64_t next() const { return m_.root->inodes.next; }

  void make_slot(uint64_t n);  // the pages that inode n is in; its chunk is zero if it is new

  void make_orphan(Ino ino);
  void drop_orphan(Ino ino);
  std::vector<Ino> orphans() const;

 private:
  Media& m_;
};

// Before storing to an inode: its first cache line, its second, both.
inline void snapshot_hot(InodeMedia* i) { transaction::snapshot(reinterpret_cast<std::byte*>(i), 64); }
inline void snapshot_warm(InodeMedia* i) { transaction::snapshot(reinterpret_cast<std::byte*>(i) + 64, 64); }
inline void snapshot_inode(InodeMedia* i) { transaction::snapshot(reinterpret_cast<std::byte*>(i), 128); }

}  // namespace pmfs::meta
