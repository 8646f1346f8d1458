// StoreImpl: what is said about inodes, and their end.
#include <sys/stat.h>

#include "pmfs/meta/names.h"
#include "pmfs/meta/store_impl.h"
#include "pmfs/meta/xattrs.h"

namespace pmfs::meta {

InodeAttr StoreImpl::getattr(Ino ino) {
  ReaderLock l(meta_mu_);
  const InodeMedia* i = inodes_.get(ino);
  InodeAttr a;
  a.ino = ino;
  a.mode = i->mode;
  a.uid = i->uid;
  a.gid = i->gid;
  a.nlink = i->nlink;
  a.size = is_dir(i) ? i->map.count : i->size;
  a.blocks = i->blocks;
  a.atime_ns = i->atime_ns;
  a.mtime_ns = i->mtime_ns;
  a.ctime_ns = i->ctime_ns;
  a.btime_ns = i->btime_ns;
  a.generation = i->generation;
  return a;
}

// Sources: fs/attr.c setattr_prepare, notify_change, setattr_copy; fs/open.c chown_common.
void StoreImpl::set_attr(Ino ino, const AttrChange& c, const Credentials& who) {
  WriterLock l(meta_mu_);
  InodeMedia* i = inodes_.get(ino);
  const bool owner = who.owns(i->uid);
  auto refuse = [&](const char* what) {
    fail(EPERM, "inode {} is user {}'s: user {} may not change its {}", to_u64(ino), i->uid, who.uid, what);
  };
  if (c.uid && !who.privileged() && (*c.uid != i->uid || !owner)) refuse("owner");
  if (c.gid && !who.privileged() && (!owner || (*c.gid != i->gid && !who.in_group(*c.gid)))) refuse("group");
  if (c.mode && !owner) refuse("mode");
  auto now_only = [](const std::optional<int64_t>& t) { return !t || *t == AttrChange::kNow; };
  if ((c.atime_ns || c.mtime_ns) && !owner) {
    bool now = now_only(c.atime_ns) && now_only(c.mtime_ns);
    if (!now || !who.may_write(i->mode, i->uid, i->gid)) refuse("times");
  }
  const uint32_t uid = c.uid.value_or(i->uid), gid = c.gid.value_or(i->gid);
  uint32_t mode = i->mode;
  if (c.mode) {
    mode = (mode & S_IFMT) | (*c.mode & 07777);
    if (!who.privileged() && !who.in_group(gid)) mode &= ~uint32_t{S_ISGID};
  } else if ((c.uid || c.gid) && !is_dir(i)) {  // a new owner's program must not run with more than they gave it
    mode &= ~uint32_t{S_ISUID};
    if ((mode & S_IXGRP) != 0) mode &= ~uint32_t{S_ISGID};
  }
  // Crash before: the old attributes. After: all of the new ones.
  run(Kind::kNeeded, [&] {
    snapshot_inode(i);
    const int64_t now = now_ns();
    if (uid != i->uid) quotas_.transfer(i, uid, i->project);
    i->mode = mode;
    i->uid = uid;
    i->gid = gid;
    if (c.atime_ns) i->atime_ns = *c.atime_ns == AttrChange::kNow ? now : *c.atime_ns;
    if (c.mtime_ns) i->mtime_ns = *c.mtime_ns == AttrChange::kNow ? now : *c.mtime_ns;
    i->ctime_ns = now;
  });
}

bool StoreImpl::drop_privileges(Ino ino, bool set_ids) {
  constexpr std::string_view kCapability = "security.capability";
  auto without = [&](const InodeMedia* i) {
    uint32_t mode = i->mode;
    if (!set_ids || !S_ISREG(mode)) return mode;
    return mode & ~(uint32_t{S_ISUID} | ((mode & S_IXGRP) != 0 ? uint32_t{S_ISGID} : 0));
  };
  {  // as good as always there is nothing to do
    ReaderLock l(meta_mu_);
    InodeMedia* i = inodes_.get(ino);
    if (without(i) == i->mode && (i->xattr_list_bytes == 0 || !Xattrs(m_, i).has(kCapability))) return false;
  }
  WriterLock l(meta_mu_);
  InodeMedia* i = inodes_.get(ino);
  Xattrs xattrs(m_, i);
  const bool capable = xattrs.has(kCapability);
  // Crash before: all of its privileges. After: none.
  run(Kind::kNeeded, [&] {
    snapshot_inode(i);
    i->mode = without(i);
    if (capable) xattrs.erase(kCapability);
    i->ctime_ns = now_ns();
  });
  return true;
}

void StoreImpl::set_times(Ino ino, int64_t atime_ns, int64_t mtime_ns) {
  WriterLock l(meta_mu_);
  InodeMedia* i = inodes_.get(ino);
  // Crash before: the old times. After: the new ones.
  run(Kind::kNeeded, [&] {
    snapshot_inode(i);
    if (atime_ns != INT64_MIN) i->atime_ns = atime_ns;
    if (mtime_ns != INT64_MIN) i->mtime_ns = mtime_ns;
    i->ctime_ns = now_ns();
  });
}

void StoreImpl::grow_size(Ino ino, uint64_t size) {
  if (size > kMaxFileBytes) fail(EFBIG, "{} bytes is more than the largest file", size);
  WriterLock l(meta_mu_);
  InodeMedia* i = file(ino);
  if (size <= i->size) return;
  // Crash before: the old size. After: the new one; what is between reads as zero.
  run(Kind::kNeeded, [&] {
    snapshot_hot(i);
    i->size = size;
    touch(i, now_ns());
  });
}

std::vector<Ino> StoreImpl::orphans() {
  ReaderLock l(meta_mu_);
  return inodes_.orphans();
}

void StoreImpl::free_inode(Ino ino) {
  for (;;) {
    WriterLock l(meta_mu_);
    InodeMedia* i = inodes_.get(ino);
    if (i->state != InodeMedia::kOrphan) fail(EBUSY, "inode {} still has {} names", to_u64(ino), i->nlink);
    if (i->map.root || i->blocks != 0) fail(EBUSY, "inode {} still has {} blocks", to_u64(ino), i->blocks);
    Xattrs xattrs(m_, i);
    const bool last = xattrs.few();
    // Crash before: an orphan, for the next mount to free. After: its ino is free for reuse; or, if it has more
    // attributes than one transaction should free, it is an orphan with fewer of them.
    run(Kind::kNeeded, [&] {
      snapshot_inode(i);
      if (!last) return xattrs.free_some();
      inodes_.drop_orphan(ino);
      free_now(ino, i);
    });
    if (last) return;
  }
}

// Snapshotted; without names, blocks and a place on the orphan list, and with few attributes.
void StoreImpl::free_now(Ino ino, InodeMedia* i) {
  Xattrs(m_, i).free_some();
  if (i->target) delete_persistent(m_.pop, i->target);
  quotas_.charge(i, 0, -1);
  inodes_.free(ino);
}

}  // namespace pmfs::meta
