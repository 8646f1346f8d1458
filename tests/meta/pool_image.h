// A closed pool file, mapped for a test to damage.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <type_traits>

#include "pmfs/meta/checksum.h"
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
  // Makes all checksums right again, so that what is wrong must be found by what contradicts it.
  void seal_all() {
    root_->checksum = checksum_of(*root_);
    seal_tree(root_->shared);
    seal_tree(root_->quotas);
    if (inside(root_->quotas.root.off, kSmallLeafBytes)) {
      Node* n = at(root_->quotas.root);
      for (int k = 0; k < n->count; ++k)
        if (auto q = persistent_ptr<QuotaMedia>{n->records[k].a}; inside(q.off, sizeof(QuotaMedia)))
          reseal(q.off, &at(q)->checksum, checksum_of(*at(q), q.off));
    }
    if (!inside(root_->inodes.top.off, sizeof(InodePage)) || !inside(at(root_->inodes.top)->down[0].off, 4096)) return;
    for (uint64_t n = 1; n < InodeChunk::kInodes && n < root_->inodes.next; ++n) {
      InodeMedia& i = inode(Ino{n});
      seal_tree(i.map);
      seal_tree(i.xattrs);
      reseal(offset_of(&i), &i.checksum, checksum_of(i));
    }
  }
  uint64_t offset_of(const void* p) const { return static_cast<uint64_t>(static_cast<const std::byte*>(p) - base_); }
  template <class T>
  T* at(persistent_ptr<T> p) {
    return reinterpret_cast<T*>(base_ + p.off);
  }
  template <class T>
  static void set(p<T>& field, const std::type_identity_t<T>& value) {  // in no transaction
    std::memcpy(static_cast<void*>(&field), &value, sizeof(T));
  }
  bool inside(uint64_t off, uint64_t bytes) const { return off != 0 && off % 8 == 0 && off < bytes_ && bytes <= bytes_ - off; }
  InodeMedia& inode(Ino ino) {
    uint64_t n = to_u64(ino);
    REQUIRE(n < InodeChunk::kInodes);  // in the first page
    auto chunk = at(at(at(root_->inodes.top)->down[0])->down[0])->down[0];
    return at(persistent_ptr<InodeChunk>{chunk.off})->inode[n];
  }

 private:
  void seal_tree(const Tree& t) { seal_node(t.root, 20); }
  void seal_node(persistent_ptr<Node> p, int depth) {
    if (depth == 0 || !inside(p.off, kSmallLeafBytes) || at(p)->magic != Node::kMagicNode) return;
    Node* n = at(p);
    for (int k = 0; n->level > 0 && k < n->count && k < Node::kBranches; ++k) seal_node(n->branches[k].child, depth - 1);
    reseal(p.off, &n->checksum, checksum_of(*n, p.off));
  }
  void reseal(uint64_t off, uint32_t* checksum, uint32_t sum) {
    root_->seals += seal_weight(off, sum) - seal_weight(off, *checksum);
    *checksum = sum;
  }
  std::byte* base_ = nullptr;
  size_t bytes_ = 0;
  Root* root_ = nullptr;
};

}  // namespace pmfs::meta::test
