// ino -> inode in O(1): three levels of pages, made as inos are first used; freed inos on a list. The orphan
// list (inodes without a name) is threaded through the inodes too.
//
// Not thread-safe (meta mutex). Members that change something must be called in a transaction.
#pragma once

#include <vector>

#include "pmfs/meta/checksum.h"
#include "pmfs/meta/media.h"

namespace pmfs::meta {

class InodeTable {
 public:
  explicit InodeTable(Media& m) : m_(m) {}

  void format();                                            // the empty table and the root directory
  InodeMedia* find(Ino ino) const;                          // nullptr: no such inode; EIO: its checksum is wrong
  InodeMedia* get(Ino ino) const;                           // ENOENT; EIO
  InodeMedia* known(uint64_t n) const;                      // as slot(); EIO: its checksum is wrong
  InodeMedia* slot(uint64_t n) const;                       // whatever is there; nullptr: never used
  persistent_ptr<InodePage>* leaf_entry(uint64_t n) const;  // the pointer to n's chunk; nullptr: no page for it
  Ino allocate(uint32_t mode, uint32_t uid, uint32_t gid);  // nlink 0, snapshotted
  void free(Ino ino);
  // What allocate() and free() are going to store to, besides the inode that is freed.
  void snapshot_next();
  uint64_t next() const { return m_.root->inodes.next; }

  void make_slot(uint64_t n);  // the pages that inode n is in; its chunk is zero if it is new

  void make_orphan(Ino ino);
  void drop_orphan(Ino ino);
  std::vector<Ino> orphans() const;

 private:
  Media& m_;
};

// Before storing to an inode: its first cache line, the first two, all. The checksum, in the first, is made anew before
// the transaction commits.
inline void snapshot_bytes(InodeMedia* i, size_t bytes) {
  transaction::snapshot(reinterpret_cast<std::byte*>(i), bytes);
  transaction::seal_later(i, [](const pool_base& pop, void* p) {
    auto* inode = static_cast<InodeMedia*>(p);
    reseal(pop.pptr(inode).off, &inode->checksum, checksum_of(*inode));
  });
}
inline void snapshot_hot(InodeMedia* i) { snapshot_bytes(i, 64); }
inline void snapshot_inode(InodeMedia* i) { snapshot_bytes(i, 128); }
inline void snapshot_all(InodeMedia* i) { snapshot_bytes(i, sizeof(InodeMedia)); }
// All but the checksum, which it is resealed from. After snapshot_all().
inline void overwrite(InodeMedia* i, const InodeMedia& m) {
  const uint32_t checksum = i->checksum;
  *i = m;
  i->checksum = checksum;
}
template <>
void transaction::snapshot<InodeMedia>(InodeMedia*, size_t) = delete;  // would leave the checksum as it is

}  // namespace pmfs::meta
