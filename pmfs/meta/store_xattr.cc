// StoreImpl: extended attributes, with Linux's rules of who may and its errors. Sources: xattr(7), setxattr(2),
// fs/xattr.c xattr_permission.
#include <sys/stat.h>

#include "pmfs/meta/names.h"
#include "pmfs/meta/store_impl.h"
#include "pmfs/meta/xattrs.h"

namespace pmfs::meta {
namespace {

void check_may_write(const InodeMedia* i, std::string_view name, XattrPrefix prefix, const Credentials& who) {
  if (prefix != XattrPrefix::kUser) {
    if (!who.privileged()) fail(EPERM, "{}: only a privileged user may set it", name);
    return;
  }
  if (!S_ISREG(i->mode) && !is_dir(i)) fail(EPERM, "{}: a symbolic link has no user attributes", name);
  if (is_dir(i) && (i->mode & S_ISVTX) != 0 && !who.owns(i->uid)) {
    fail(EPERM, "{}: the directory is sticky and another user's", name);
  }
}

bool visible(std::string_view name, const Credentials& who) {
  return who.privileged() || !name.starts_with("trusted.");
}

}  // namespace

void StoreImpl::set_xattr(Ino ino, std::string_view name, std::span<const std::byte> value, uint32_t flags,
                          const Credentials& who) {
  XattrPrefix prefix = check_xattr_name(name);
  if ((flags & ~(kXattrCreate | kXattrReplace)) != 0) fail(EINVAL, "{}: unknown flags {:#x}", name, flags);
  if (value.size() > kMaxXattrValue) {
    fail(E2BIG, "{}: a value of {} bytes: {} is the most", name, value.size(), kMaxXattrValue);
  }
  WriterLock l(meta_mu_);
  InodeMedia* i = inodes_.get(ino);
  check_may_write(i, name, prefix, who);
  Xattrs xattrs(m_, i);
  bool there = xattrs.has(name);
  if (there && (flags & kXattrCreate) != 0) fail(EEXIST, "{}: inode {} has this attribute", name, to_u64(ino));
  if (!there && (flags & kXattrReplace) != 0) fail(ENODATA, "{}: inode {} has no such attribute", name, to_u64(ino));
  if (xattrs.list_bytes_with(name) > kMaxXattrList) {
    fail(ENOSPC, "{}: the names of inode {}'s attributes would be more than {} bytes", name, to_u64(ino), kMaxXattrList);
  }
  // Crash before: the old value, or none. After: the whole new one.
  run(Kind::kGrow, [&] {
    snapshot_inode(i);
    xattrs.set(name, value);
    i->ctime_ns = now_ns();
  });
}

std::vector<std::byte> StoreImpl::get_xattr(Ino ino, std::string_view name, const Credentials& who) {
  check_xattr_name(name);
  ReaderLock l(meta_mu_);
  InodeMedia* i = inodes_.get(ino);
  auto value = Xattrs(m_, i).get(name);
  if (!value || !visible(name, who)) fail(ENODATA, "{}: inode {} has no such attribute", name, to_u64(ino));
  return std::move(*value);
}

std::vector<std::string> StoreImpl::list_xattrs(Ino ino, const Credentials& who) {
  ReaderLock l(meta_mu_);
  auto names = Xattrs(m_, inodes_.get(ino)).names();
  std::erase_if(names, [&](const std::string& n) { return !visible(n, who); });
  return names;
}

void StoreImpl::remove_xattr(Ino ino, std::string_view name, const Credentials& who) {
  XattrPrefix prefix = check_xattr_name(name);
  WriterLock l(meta_mu_);
  InodeMedia* i = inodes_.get(ino);
  check_may_write(i, name, prefix, who);
  Xattrs xattrs(m_, i);
  if (!xattrs.has(name)) fail(ENODATA, "{}: inode {} has no such attribute", name, to_u64(ino));
  // Crash before: it is there, whole. After: it is not.
  run(Kind::kNeeded, [&] {
    snapshot_inode(i);
    xattrs.erase(name);
    i->ctime_ns = now_ns();
  });
}

}  // namespace pmfs::meta
