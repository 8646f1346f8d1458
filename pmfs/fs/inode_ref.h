// A counted reference to an open inode; the last one to go evicts it. Not to be dropped with locks of rank
// below kMeta held (eviction takes them).
#pragma once

#include <memory>
#include <utility>

#include "pmfs/fs/volume.h"

namespace pmfs {

class InodeRef {
 public:
  InodeRef() = default;
  // Takes over a reference that MountedVolume::open() or get() gave.
  InodeRef(MountedVolume& v, std::shared_ptr<Inode> i) : volume_(&v), inode_(std::move(i)) {}
  InodeRef(const InodeRef& o) : volume_(o.volume_), inode_(o.inode_) {
    if (inode_) volume_->ref(*inode_);
  }
  InodeRef(InodeRef&& o) noexcept : volume_(o.volume_), inode_(std::move(o.inode_)) { o.inode_ = nullptr; }
  InodeRef& operator=(InodeRef o) noexcept {
    std::swap(volume_, o.volume_);
    std::swap(inode_, o.inode_);
    return *this;
  }
  ~InodeRef() {
    if (inode_) volume_->put(*inode_);
  }
  Inode& operator*() const { return *inode_; }
  Inode* operator->() const { return inode_.get(); }
  explicit operator bool() const { return inode_ != nullptr; }

 private:
  MountedVolume* volume_ = nullptr;
  std::shared_ptr<Inode> inode_;
};

}  // namespace pmfs
