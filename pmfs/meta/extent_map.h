// The extent map of one file: pgoff -> blocks, a B+tree. Extents that touch in pgoff and in pfn and agree in
// the UNWRITTEN flag are always one record. i_blocks is kept in step.
//
// Not thread-safe (meta mutex). Members that change something must be called in a transaction, with the first
// cache line of the inode snapshotted.
#pragma once

#include <optional>
#include <vector>

#include "pmfs/meta/btree.h"
#include "pmfs/meta/media.h"

namespace pmfs::meta {

FileExtent extent_of(const Record& r);
Record record_of(const FileExtent& e);

class ExtentMap {
 public:
  struct Taken {  // by remove(): for the deferred-free list
    std::vector<FileExtent> pieces;
    std::vector<persistent_ptr<Node>> subtrees;  // of extent records
    std::vector<Extent> all;                     // both, what their blocks are, but for shared ones
  };

  ExtentMap(pool_base& pop, InodeMedia* inode) : pop_(pop), inode_(inode), tree_(pop, &inode->map, inode->ino) {}

  std::optional<FileExtent> lookup(Pgoff p) const;
  std::vector<FileExtent> list(PageRange r, size_t max) const;
  bool any(PageRange r) const;
  // The parts in `r` of extents that are (not) unwritten.
  std::vector<FileExtent> with_flag(PageRange r, bool unwritten) const;

  void insert(const FileExtent& e);  // e.range() must be a hole
  Taken remove(PageRange r);
  void set_flag(const FileExtent& part, bool unwritten);  // `part` as with_flag() gave it
  void set_shared(const FileExtent& part, bool shared);  // `part` of one extent
  Pgoff end() const;                        // behind the last extent
  void move_up(Pgoff from, uint64_t pages);  // what is at `from` and behind; nothing may get behind kEndOfFile
  void move_down(PageRange hole);            // what is behind the hole, by its length

 private:
  void insert_merging(const FileExtent& e);
  // Cuts [r) out of the one extent `host` that holds it all.
  void carve(const FileExtent& host, PageRange r);
  pool_base& pop_;
  InodeMedia* inode_;
  BTree tree_;
};

}  // namespace pmfs::meta
