// A closed pool file, mapped for a test to damage.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <type_traits>

#include "pmfs/meta/superblock.h"
#include "tests/meta/meta_fixture.h"

namespace pmfs::meta::test {

class PoolImage {
 public:
  explicit PoolImage(const std::filesystem::path& p) {
    int fd = open(p.c_str(), O_RDWR | O_CLOEXEC);
    struct stat st;
    REQUIRE(fstat(fd, &st) == 0);
    bytes_ = static_cast<size_t>(st.st_size);
    base_ = static_cast<std::byte*>(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    REQUIRE(base_ != MAP_FAILED);
    close(fd);
    for (size_t at = 0; at + sizeof(Root) <= bytes_ && root_ == nullptr; at += 8) {
      auto* sb = reinterpret_cast<SuperblockMedia*>(base_ + at);
      if (sb->magic == kMagic && superblock_checksum(*sb) == sb->checksum) root_ = reinterpret_cast<Root*>(sb);
    }
    REQUIRE(root_ != nullptr);
  }
  ~PoolImage() { munmap(base_, bytes_); }
  PoolImage(const PoolImage&) = delete;
  PoolImage& operator=(const PoolImage&) = delete;

  Root& root() { return *root_; }
  SuperblockMedia& superblock() { return root_->sb; }
  void seal() { root_->sb.checksum = superblock_checksum(root_->sb); }
  template <class T>
  T* at(persistent_ptr<T> p) {
    return reinterpret_cast<T*>(base_ + p.off);
  }
  template <class T>
  static void set(p<T>& field, const std::type_identity_t<T>& value) {  // in no transaction
    std::memcpy(static_cast<void*>(&field), &value, sizeof(T));
  }
  InodeMedia& inode(Ino ino) {
    uint64_t n = to_u64(ino);
    REQUIRE(n < InodeChunk::kInodes);  // in the first page
    auto chunk = at(at(at(root_->inodes.top)->down[0])->down[0])->down[0];
    return at(persistent_ptr<InodeChunk>{chunk.off})->inode[n];
  }

 private:
  std::byte* base_ = nullptr;
  size_t bytes_ = 0;
  Root* root_ = nullptr;
};

}  // namespace pmfs::meta::test
