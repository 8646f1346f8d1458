// FUSE: attributes, extended attributes, the file system's own figures.
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include <algorithm>

#include "pmfs/fuse/ops.h"

namespace pmfs::fuse {

namespace {

constexpr int64_t kSecond = 1000000000;

timespec to_timespec(int64_t ns) {
  const int64_t s = ns >= 0 ? ns / kSecond : -((-ns + kSecond - 1) / kSecond);
  return {s, ns - s * kSecond};
}
int64_t to_ns(const timespec& t) { return int64_t{t.tv_sec} * kSecond + t.tv_nsec; }

void reply_attr(fuse_req_t req, Mount& m, Ino ino) {
  const Leases::Grant g(m.volume().leases());
  const struct stat st = to_stat(m.volume().store().getattr(ino), m.volume().unit());
  if (g) m.leased().add(ino);
  PMFS_PAUSE_POINT("fuse:attributes_read");
  fuse_reply_attr(req, &st, g.seconds());
}

void getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  answer(req, [&](Mount& m) { reply_attr(req, m, Ino{ino}); });
}

// The kernel has checked who may. What it changes in one call it changes in this order: the size can fail for want of
// space, then nothing else is done.
void setattr(fuse_req_t req, fuse_ino_t ino, struct stat* want, int what, fuse_file_info*) {
  answer(req, [&](Mount& m) {
    if (what & FUSE_SET_ATTR_SIZE) {
      m.loop().will_block();
      const InodeRef file = m.nodes().file(Ino{ino});
      drop_privileges(req, m, Ino{ino});
      m.volume().truncate(*file, static_cast<uint64_t>(want->st_size));
      m.volume().wait_idle(file->ino);
    }
    meta::AttrChange c;
    if (what & FUSE_SET_ATTR_MODE) c.mode = want->st_mode & 07777;
    if (what & FUSE_SET_ATTR_UID) c.uid = want->st_uid;
    if (what & FUSE_SET_ATTR_GID) c.gid = want->st_gid;
    if (what & FUSE_SET_ATTR_ATIME) c.atime_ns = to_ns(want->st_atim);
    if (what & FUSE_SET_ATTR_MTIME) c.mtime_ns = to_ns(want->st_mtim);
    if (what & FUSE_SET_ATTR_ATIME_NOW) c.atime_ns = meta::AttrChange::kNow;
    if (what & FUSE_SET_ATTR_MTIME_NOW) c.mtime_ns = meta::AttrChange::kNow;
    if (c.mode || c.uid || c.gid || c.atime_ns || c.mtime_ns) m.volume().store().set_attr(Ino{ino}, c, meta::Credentials{});
    reply_attr(req, m, Ino{ino});
  });
}

void statfs(fuse_req_t req, fuse_ino_t) {
  answer(req, [&](Mount& m) {
    const meta::Space s = m.volume().space();
    struct statvfs v {};
    v.f_bsize = v.f_frsize = kBlockSize;
    v.f_blocks = s.blocks_total;
    v.f_bfree = v.f_bavail = s.blocks_total - s.blocks_used;
    // As many more inodes as the metadata has room for, at the size of a small one.
    constexpr uint64_t kInodeBytes = 512;
    v.f_ffree = v.f_favail = (s.meta_bytes_total - std::min(s.meta_bytes_total, s.meta_bytes_used)) / kInodeBytes;
    v.f_files = s.inodes_used + v.f_ffree;
    v.f_namemax = 255;
    fuse_reply_statfs(req, &v);
  });
}

// The kernel has checked who may (xattr_permission, cap_inode_setxattr), with groups and capabilities that we don't know.
void setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, size_t size, int flags) {
  answer(req, [&](Mount& m) {
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(value), size);
    m.volume().store().set_xattr(Ino{ino}, name, bytes, static_cast<uint32_t>(flags), meta::Credentials{});
    fuse_reply_err(req, 0);
  });
}

// size 0 asks how much there is.
void reply_bytes(fuse_req_t req, const char* data, size_t bytes, size_t size) {
  if (size == 0) {
    fuse_reply_xattr(req, bytes);
  } else if (bytes > size) {
    fuse_reply_err(req, ERANGE);
  } else {
    fuse_reply_buf(req, data, bytes);
  }
}

void getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size) {
  answer(req, [&](Mount& m) {
    const auto value = m.volume().store().get_xattr(Ino{ino}, name, meta::Credentials{});
    reply_bytes(req, reinterpret_cast<const char*>(value.data()), value.size(), size);
  });
}

void listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
  answer(req, [&](Mount& m) {
    std::string names;
    for (const std::string& n : m.volume().store().list_xattrs(Ino{ino}, who(req))) names.append(n).push_back('\0');
    reply_bytes(req, names.data(), names.size(), size);
  });
}

void removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  answer(req, [&](Mount& m) {
    m.volume().store().remove_xattr(Ino{ino}, name, meta::Credentials{});
    fuse_reply_err(req, 0);
  });
}

}  // namespace

struct stat to_stat(const meta::InodeAttr& a, Unit unit) {
  struct stat st {};
  st.st_ino = to_u64(a.ino);
  st.st_mode = a.mode;
  st.st_nlink = a.nlink;
  st.st_uid = a.uid;
  st.st_gid = a.gid;
  st.st_size = static_cast<off_t>(a.size);
  st.st_blocks = static_cast<blkcnt_t>(a.blocks * (kBlockSize / 512));
  st.st_blksize = static_cast<blksize_t>(unit.bytes());
  st.st_atim = to_timespec(a.atime_ns);
  st.st_mtim = to_timespec(a.mtime_ns);
  st.st_ctim = to_timespec(a.ctime_ns);
  return st;
}

void add_attr_ops(fuse_lowlevel_ops& ops) {
  ops.getattr = getattr;
  ops.setattr = setattr;
  ops.statfs = statfs;
  ops.setxattr = setxattr;
  ops.getxattr = getxattr;
  ops.listxattr = listxattr;
  ops.removexattr = removexattr;
}

}  // namespace pmfs::fuse
