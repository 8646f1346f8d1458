// StoreImpl: a larger region.
#include <cstring>

#include "pmfs/meta/store_impl.h"
#include "pmfs/meta/superblock.h"

namespace pmfs::meta {

Superblock StoreImpl::superblock() const {
  ReaderLock l(meta_mu_);
  return sb_;
}

void StoreImpl::begin_grow(uint64_t blocks) {
  WriterLock l(meta_mu_);
  const uint64_t now = m_.root->sb.blocks;
  if (blocks <= now) fail(EINVAL, "the volume has {} blocks already: it can't shrink to {}", now, blocks);
  if (!unit_.whole(blocks)) fail(EINVAL, "the volume allocates in units of {} blocks: it can't have {}", unit_.blocks(), blocks);
  if (blocks > kMaxBlocks) fail(EFBIG, "a region of {} blocks: {} are the most", blocks, kMaxBlocks);
  // Crash before: nothing. After: a file of the region that is longer than the superblock says is cut back by a mount.
  run(Kind::kNeeded, [&] { m_.root->growing_to = blocks; });
}

void StoreImpl::grow(uint64_t blocks) {
  WriterLock l(meta_mu_);
  Root* root = m_.root;
  if (blocks < root->sb.blocks) fail(EINVAL, "the volume has {} blocks: it can't shrink to {}", root->sb.blocks, blocks);
  const uint64_t groups = (blocks + kGroupBlocks - 1) / kGroupBlocks, had = root->group_count;
  // Crash before: the old size; the mount cuts the region's file back. After: all of the new blocks are free.
  run(blocks > root->sb.blocks ? Kind::kGrow : Kind::kNeeded, [&] {
    if (groups > had) {
      auto table = make_persistent<GroupTable>(groups * sizeof(GroupMedia));
      std::memcpy(m_.pop.direct(table)->group, m_.pop.direct(root->groups)->group, had * sizeof(GroupMedia));
      delete_persistent(m_.pop, root->groups);
      transaction::snapshot(&root->groups);
      transaction::snapshot(&root->group_count);
      root->groups = table;
      root->group_count = groups;
    }
    transaction::snapshot(&root->sb);
    root->sb.blocks = blocks;
    root->sb.checksum = superblock_checksum(root->sb);
    root->growing_to = 0;
  });
  sb_.geometry.blocks = blocks;
  MutexLock a(alloc_mu_);
  map_.grow(blocks);
}

}  // namespace pmfs::meta
