// StoreImpl: quotas and projects.
#include "pmfs/meta/names.h"
#include "pmfs/meta/store_impl.h"

namespace pmfs::meta {

// By looking at every inode: what a quota costs when it is first set.
Quota StoreImpl::usage(QuotaKind kind, uint32_t id) const {
  Quota q{kind, id, 0, 0, 0, 0};
  for (uint64_t n = to_u64(kRootIno); n < inodes_.next(); ++n) {
    const InodeMedia* i = inodes_.known(n);
    if (i->state == InodeMedia::kFree || (kind == QuotaKind::kUser ? i->uid : i->project) != id) continue;
    q.blocks += i->blocks;
    ++q.inodes;
  }
  return q;
}

void StoreImpl::set_quota(QuotaKind kind, uint32_t id, uint64_t block_limit, uint64_t inode_limit) {
  if (kind == QuotaKind::kProject && id == 0) fail(EINVAL, "project 0 is no project: it has no quota");
  WriterLock l(meta_mu_);
  Quota q{kind, id, 0, 0, block_limit, inode_limit};
  if (!quotas_.counted(kind, id) && (block_limit != 0 || inode_limit != 0)) {
    q = usage(kind, id);
    q.block_limit = block_limit;
    q.inode_limit = inode_limit;
  }
  // Crash before: the old limits, or none and nothing counted. After: the new ones, with all that is used counted.
  run(block_limit == 0 && inode_limit == 0 ? Kind::kNeeded : Kind::kGrow, [&] { quotas_.set(q); });
  quotas_.committed(kind, id);
}

std::vector<Quota> StoreImpl::quotas() {
  ReaderLock l(meta_mu_);
  return quotas_.all();
}

void StoreImpl::set_project(Ino ino, const Project& p, const Credentials& who) {
  if (!who.privileged()) fail(EPERM, "inode {}: only a privileged user may change its project", to_u64(ino));
  WriterLock l(meta_mu_);
  InodeMedia* i = inodes_.get(ino);
  if (p.inherit && !is_dir(i)) fail(EINVAL, "inode {}: only a directory hands its project on", to_u64(ino));
  // Crash before: the old project. After: the new one, which is charged with all of it.
  run(Kind::kNeeded, [&] {
    snapshot_inode(i);
    quotas_.transfer(i, i->uid, p.id);
    i->project = p.id;
    i->flags = p.inherit ? i->flags | InodeMedia::kProjectInherit : i->flags & ~InodeMedia::kProjectInherit;
    i->ctime_ns = now_ns();
  });
}

Project StoreImpl::project(Ino ino) {
  ReaderLock l(meta_mu_);
  const InodeMedia* i = inodes_.get(ino);
  return {i->project, (i->flags & InodeMedia::kProjectInherit) != 0};
}

}  // namespace pmfs::meta
