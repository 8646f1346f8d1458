// StoreImpl: names. Renaming is in store_rename.cc, attributes are in store_attr.cc.
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "pmfs/meta/hash.h"
#include "pmfs/meta/names.h"
#include "pmfs/meta/store_impl.h"
#include "pmfs/meta/xattrs.h"

namespace pmfs::meta {

InodeMedia* StoreImpl::directory(Ino ino) const {
  InodeMedia* i = inodes_.get(ino);
  if (!is_dir(i)) fail(ENOTDIR, "inode {} is not a directory", to_u64(ino));
  return i;
}

InodeMedia* StoreImpl::file(Ino ino) const {
  InodeMedia* i = inodes_.get(ino);
  if (is_dir(i)) fail(EISDIR, "inode {} is a directory", to_u64(ino));
  if (!S_ISREG(i->mode)) fail(EINVAL, "inode {} is a symbolic link", to_u64(ino));
  return i;
}

std::optional<Ino> StoreImpl::find(Ino dir, std::string_view name) {
  check_name(name);
  ReaderLock l(meta_mu_);
  const auto e = Directory(m_, directory(dir)).find(name);
  return e ? std::optional(e->ino) : std::nullopt;
}

Ino StoreImpl::lookup(Ino dir, std::string_view name) {
  const auto ino = find(dir, name);
  if (!ino) fail(ENOENT, "{}: no such file", name);
  return *ino;
}

// Source of the set-group-ID rules: fs/inode.c inode_init_owner, mode_strip_sgid.
Ino StoreImpl::make(Ino dir, std::string_view name, uint32_t mode, const Credentials& who, std::string_view target) {
  check_name(name);
  WriterLock l(meta_mu_);
  InodeMedia* parent = directory(dir);
  check_alive(parent, dir);
  Directory d(m_, parent);
  if (d.find(name)) fail(EEXIST, "{}: exists already", name);
  if (S_ISDIR(mode)) check_link_count(parent, name);
  uint32_t gid = who.gid;
  if ((parent->mode & S_ISGID) != 0) {
    gid = parent->gid;
    if (S_ISDIR(mode)) {
      mode |= S_ISGID;
    } else if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && !who.privileged() && !who.in_group(gid)) {
      mode &= ~uint32_t{S_ISGID};
    }
  }
  Ino ino{};
  // Crash before: no trace. After: the name, the inode (with its target), and the parent's count and times.
  run(Kind::kGrow, [&] {
    {
      transaction::together all;
      inodes_.snapshot_next();
      snapshot_hot(parent);
      d.snapshot_insert(name);
    }
    ino = inodes_.allocate(mode, who.uid, gid);
    InodeMedia* i = inodes_.get(ino);
    i->nlink = S_ISDIR(mode) ? 2 : 1;
    if (S_ISDIR(mode)) i->parent = to_u64(dir);
    if ((parent->flags & InodeMedia::kProjectInherit) != 0) {
      i->project = parent->project;
      if (S_ISDIR(mode)) i->flags |= InodeMedia::kProjectInherit;
    }
    quotas_.charge(i, 0, 1);
    if (!target.empty()) {
      // The two sizes the pool is good at: more would take the library's own classes, many chunks at a time.
      size_t bytes = std::max<size_t>(target.size(), sizeof(SymlinkMedia));
      i->target = make_persistent<SymlinkMedia>(bytes <= kNodeBytes ? bytes : kPageBytes);
      std::memcpy(m_.pop.direct(i->target)->bytes, target.data(), target.size());
      i->size = target.size();
      i->target_checksum = crc32c(target.data(), target.size());
    }
    d.insert(name, ino);
    if (S_ISDIR(mode)) ++parent->nlink;
    touch(parent, i->btime_ns);
  });
  return ino;
}

Ino StoreImpl::create(Ino dir, std::string_view name, uint32_t mode, const Credentials& who) {
  return make(dir, name, S_IFREG | (mode & 07777), who);
}

Ino StoreImpl::mkdir(Ino dir, std::string_view name, uint32_t mode, const Credentials& who) {
  return make(dir, name, S_IFDIR | (mode & 07777), who);
}

Ino StoreImpl::symlink(Ino dir, std::string_view name, std::string_view target, const Credentials& who) {
  if (target.empty()) fail(ENOENT, "{}: a symbolic link to nothing", name);
  if (target.size() > kMaxSymlink) {
    fail(ENAMETOOLONG, "{}: a target of {} bytes: {} is the most", name, target.size(), kMaxSymlink);
  }
  if (target.find('\0') != std::string_view::npos) fail(EINVAL, "{}: a target with a NUL byte", name);
  return make(dir, name, S_IFLNK | 0777, who, target);
}

std::string StoreImpl::readlink(Ino ino) {
  ReaderLock l(meta_mu_);
  const InodeMedia* i = inodes_.get(ino);
  if (!S_ISLNK(i->mode)) fail(EINVAL, "inode {} is not a symbolic link", to_u64(ino));
  if (i->size > kMaxSymlink) fail(EUCLEAN, "the metadata is damaged: the target of inode {}; see pmfs fsck", to_u64(ino));
  std::string target(m_.pop.direct(i->target)->bytes, i->size);
  if (crc32c(target.data(), target.size()) != i->target_checksum)
    fail(EIO, "inode {}: its target is damaged (the checksum does not match); see pmfs fsck", to_u64(ino));
  return target;
}

void StoreImpl::link(Ino ino, Ino dir, std::string_view name, const Credentials&) {
  check_name(name);
  WriterLock l(meta_mu_);
  InodeMedia* parent = directory(dir);
  check_alive(parent, dir);
  InodeMedia* i = inodes_.get(ino);
  if (is_dir(i)) fail(EPERM, "{}: a directory has one name only", name);
  if (i->state != InodeMedia::kLive) fail(ENOENT, "{}: the file has been removed", name);
  Directory d(m_, parent);
  if (d.find(name)) fail(EEXIST, "{}: exists already", name);
  check_link_count(i, name);
  check_project(parent, i, name);
  // Crash before: the names it had. After: one more, counted.
  run(Kind::kGrow, [&] {
    snapshot_hot(i);
    snapshot_hot(parent);
    d.insert(name, ino);
    ++i->nlink;
    i->ctime_ns = now_ns();
    touch(parent, i->ctime_ns);
  });
}

// It is about to lose a name: whether that is its last, and it can be freed with it.
bool StoreImpl::goes_at_once(Ino ino, InodeMedia* i, const Claim& claim) {
  const bool bare = !i->map.root && i->blocks == 0 && Xattrs(m_, i).few();
  return claim && bare && (is_dir(i) || i->nlink == 1) && claim(ino, i->mode);
}

// The name of `i` in `parent` is gone: one link less. `free`: it goes_at_once().
void StoreImpl::drop_name(InodeMedia* parent, Ino ino, InodeMedia* i, bool free) {
  snapshot_inode(i);
  i->ctime_ns = now_ns();
  if (is_dir(i)) {
    i->nlink = 0;
    --parent->nlink;
  } else {
    --i->nlink;
  }
  if (free)
    free_now(ino, i);
  else if (i->nlink == 0)
    inodes_.make_orphan(ino);
}

Unlinked StoreImpl::remove(Ino dir, std::string_view name, bool want_dir, const Credentials& who, const Claim& claim) {
  check_name(name);
  WriterLock l(meta_mu_);
  InodeMedia* parent = directory(dir);
  Directory d(m_, parent);
  auto e = d.find(name);
  if (!e) fail(ENOENT, "{}: no such file", name);
  InodeMedia* i = inodes_.get(e->ino);
  if (want_dir && !is_dir(i)) fail(ENOTDIR, "{}: not a directory", name);
  if (!want_dir && is_dir(i)) fail(EISDIR, "{}: is a directory", name);
  check_sticky(parent, i, name, who);
  if (want_dir && !Directory(m_, i).empty()) fail(ENOTEMPTY, "{}: directory not empty", name);
  const uint32_t mode = i->mode;
  const bool free = goes_at_once(e->ino, i, claim);
  // Crash before: it is there. After: the name is not; an inode that had no other is on the orphan list, or free if nobody
  // has it and nothing was left to remove.
  run(Kind::kNeeded, [&] {
    {
      transaction::together all;
      transaction::snapshot(&m_.root->inodes);
      snapshot_hot(parent);
      snapshot_inode(i);
      d.snapshot_erase(*e);
    }
    d.erase(*e);
    drop_name(parent, e->ino, i, free);
    touch(parent, i->ctime_ns);
  });
  return {e->ino, i->nlink == 0, mode, free};
}

Unlinked StoreImpl::unlink(Ino dir, std::string_view name, const Credentials& who, const Claim& claim) {
  return remove(dir, name, false, who, claim);
}
Unlinked StoreImpl::rmdir(Ino dir, std::string_view name, const Credentials& who, const Claim& claim) {
  return remove(dir, name, true, who, claim);
}

std::vector<DirEntry> StoreImpl::list(Ino dir, uint64_t cookie, size_t max) {
  ReaderLock l(meta_mu_);
  std::vector<DirEntry> out;
  InodeMedia* i = directory(dir);
  if (max == 0 || cookie >= UINT64_MAX - 1) return out;
  Directory(m_, i).visit(cookie, [&](uint64_t key, std::string_view name, Ino ino) {
    uint32_t mode = 0;  // unknown, if the file is damaged: the others are listed all the same
    try {
      if (const InodeMedia* target = inodes_.find(ino)) mode = target->mode;
    } catch (const Error&) {
    }
    out.push_back({std::string(name), ino, mode, key});
    return out.size() < max;
  });
  return out;
}

Ino StoreImpl::parent(Ino dir) {
  ReaderLock l(meta_mu_);
  InodeMedia* i = directory(dir);
  check_alive(i, dir);
  return Ino{i->parent};
}

}  // namespace pmfs::meta
