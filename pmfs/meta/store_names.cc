// StoreImpl: names and inodes.
#include <sys/stat.h>

#include <algorithm>

#include "pmfs/meta/directory.h"
#include "pmfs/meta/store_impl.h"

namespace pmfs::meta {
namespace {

void check_name(std::string_view name) {
  if (name.size() > kMaxName) fail(ENAMETOOLONG, "a name of {} bytes: {} is the most", name.size(), kMaxName);
  if (name.empty() || name == "." || name == ".." || name.find('/') != name.npos || name.find('\0') != name.npos) {
    fail(EINVAL, "\"{}\" is not a name for a file", name);
  }
}

bool is_dir(const InodeMedia* i) { return S_ISDIR(i->mode); }

void touch(InodeMedia* i, int64_t now) { i->mtime_ns = i->ctime_ns = now; }

// A directory that rmdir took away takes no new names.
void check_alive(const InodeMedia* dir, Ino ino) {
  if (dir->state != InodeMedia::kLive) fail(ENOENT, "directory {} has been removed", to_u64(ino));
}

}  // namespace

InodeMedia* StoreImpl::directory(Ino ino) const {
  InodeMedia* i = inodes_.get(ino);
  if (!is_dir(i)) fail(ENOTDIR, "inode {} is not a directory", to_u64(ino));
  return i;
}

InodeMedia* StoreImpl::file(Ino ino) const {
  InodeMedia* i = inodes_.get(ino);
  if (is_dir(i)) fail(EISDIR, "inode {} is a directory", to_u64(ino));
  return i;
}

Ino StoreImpl::lookup(Ino dir, std::string_view name) {
  check_name(name);
  ReaderLock l(meta_mu_);
  auto e = Directory(m_, directory(dir)).find(name);
  if (!e) fail(ENOENT, "{}: no such file", name);
  return e->ino;
}

Ino StoreImpl::make(Ino dir, std::string_view name, uint32_t mode, uint32_t uid, uint32_t gid) {
  check_name(name);
  WriterLock l(meta_mu_);
  InodeMedia* parent = directory(dir);
  check_alive(parent, dir);
  Directory d(m_, parent);
  if (d.find(name)) fail(EEXIST, "{}: exists already", name);
  Ino ino{};
  // Crash before: no trace. After: the name, the inode and the parent's count and times.
  run(Kind::kGrow, [&] {
    ino = inodes_.allocate(mode, uid, gid);
    InodeMedia* i = inodes_.get(ino);
    i->nlink = S_ISDIR(mode) ? 2 : 1;
    if (S_ISDIR(mode)) i->parent = to_u64(dir);
    snapshot_hot(parent);
    d.insert(name, ino);
    if (S_ISDIR(mode)) ++parent->nlink;
    touch(parent, i->btime_ns);
  });
  return ino;
}

Ino StoreImpl::create(Ino dir, std::string_view name, uint32_t mode, uint32_t uid, uint32_t gid) {
  return make(dir, name, S_IFREG | (mode & 07777), uid, gid);
}

Ino StoreImpl::mkdir(Ino dir, std::string_view name, uint32_t mode, uint32_t uid, uint32_t gid) {
  return make(dir, name, S_IFDIR | (mode & 07777), uid, gid);
}

// The name of `i` in `parent` is gone: one link less.
void StoreImpl::drop_name(InodeMedia* parent, Ino ino, InodeMedia* i) {
  snapshot_hot(i);
  i->ctime_ns = now_ns();
  if (is_dir(i)) {
    i->nlink = 0;
    --parent->nlink;
  } else {
    --i->nlink;
  }
  if (i->nlink == 0) inodes_.make_orphan(ino);
}

Unlinked StoreImpl::remove(Ino dir, std::string_view name, bool want_dir) {
  check_name(name);
  WriterLock l(meta_mu_);
  InodeMedia* parent = directory(dir);
  Directory d(m_, parent);
  auto e = d.find(name);
  if (!e) fail(ENOENT, "{}: no such file", name);
  InodeMedia* i = inodes_.get(e->ino);
  if (want_dir && !is_dir(i)) fail(ENOTDIR, "{}: not a directory", name);
  if (!want_dir && is_dir(i)) fail(EISDIR, "{}: is a directory", name);
  if (want_dir && !Directory(m_, i).empty()) fail(ENOTEMPTY, "{}: directory not empty", name);
  // Crash before: it is there. After: the name is not; an inode that had no other is on the orphan list.
  run(Kind::kNeeded, [&] {
    snapshot_hot(parent);
    d.erase(*e);
    drop_name(parent, e->ino, i);
    touch(parent, i->ctime_ns);
  });
  return {e->ino, i->nlink == 0};
}

Unlinked StoreImpl::unlink(Ino dir, std::string_view name) { return remove(dir, name, false); }
Unlinked StoreImpl::rmdir(Ino dir, std::string_view name) { return remove(dir, name, true); }

std::optional<Unlinked> StoreImpl::rename(Ino sdir, std::string_view sname, Ino ddir, std::string_view dname) {
  check_name(sname);
  check_name(dname);
  WriterLock l(meta_mu_);
  InodeMedia* sp = directory(sdir);
  InodeMedia* dp = directory(ddir);
  check_alive(dp, ddir);
  Directory sd(m_, sp), dd(m_, dp);
  auto from = sd.find(sname), to = dd.find(dname);
  if (!from) fail(ENOENT, "{}: no such file", sname);
  InodeMedia* i = inodes_.get(from->ino);
  InodeMedia* old = to ? inodes_.get(to->ino) : nullptr;
  if (old == i) return std::nullopt;  // two names of one inode: POSIX wants nothing done
  if (is_dir(i)) {
    for (Ino up = ddir;; up = Ino{inodes_.get(up)->parent}) {
      if (up == from->ino) fail(EINVAL, "{}: a directory can't be moved into itself", sname);
      if (up == kRootIno) break;
    }
  }
  if (old != nullptr) {
    if (is_dir(i) && !is_dir(old)) fail(ENOTDIR, "{}: not a directory", dname);
    if (!is_dir(i) && is_dir(old)) fail(EISDIR, "{}: is a directory", dname);
    if (is_dir(old) && !Directory(m_, old).empty()) fail(ENOTEMPTY, "{}: directory not empty", dname);
  }
  // Crash before: the old names. After: the new one only; what it stood for lost a link.
  run(Kind::kNeeded, [&] {
    snapshot_hot(sp);
    snapshot_hot(dp);
    snapshot_inode(i);
    if (to)
      dd.set(*to, from->ino);
    else
      dd.insert(dname, from->ino);
    sd.erase(*from);
    if (is_dir(i) && sdir != ddir) {
      --sp->nlink;
      ++dp->nlink;
      i->parent = to_u64(ddir);
    }
    if (old != nullptr) drop_name(dp, to->ino, old);
    i->ctime_ns = now_ns();
    touch(sp, i->ctime_ns);
    touch(dp, i->ctime_ns);
  });
  if (old == nullptr) return std::nullopt;
  return Unlinked{to->ino, old->nlink == 0};
}

std::vector<DirEntry> StoreImpl::list(Ino dir, uint64_t cookie, size_t max) {
  ReaderLock l(meta_mu_);
  std::vector<DirEntry> out;
  InodeMedia* i = directory(dir);
  if (max == 0 || cookie >= UINT64_MAX - 1) return out;
  Directory(m_, i).visit(cookie, [&](uint64_t key, std::string_view name, Ino ino) {
    const InodeMedia* target = inodes_.find(ino);
    out.push_back({std::string(name), ino, target != nullptr ? target->mode : 0, key});
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

void StoreImpl::set_mode(Ino ino, uint32_t mode, uint32_t uid, uint32_t gid) {
  WriterLock l(meta_mu_);
  InodeMedia* i = inodes_.get(ino);
  // Crash before: the old attributes. After: the new ones.
  run(Kind::kNeeded, [&] {
    snapshot_inode(i);
    i->mode = (i->mode & S_IFMT) | (mode & 07777);
    i->uid = uid;
    i->gid = gid;
    i->ctime_ns = now_ns();
  });
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
  WriterLock l(meta_mu_);
  InodeMedia* i = inodes_.get(ino);
  if (i->state != InodeMedia::kOrphan) fail(EBUSY, "inode {} still has {} names", to_u64(ino), i->nlink);
  if (i->map.root || i->blocks != 0) fail(EBUSY, "inode {} still has {} blocks", to_u64(ino), i->blocks);
  // Crash before: an orphan, for the next mount to free. After: its ino is free for reuse.
  run(Kind::kNeeded, [&] {
    inodes_.drop_orphan(ino);
    inodes_.free(ino);
  });
}

}  // namespace pmfs::meta
