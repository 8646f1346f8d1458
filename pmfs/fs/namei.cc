// The namespace by path. Permission bits are kept, not enforced: whoever may connect can map all file data anyway, and
// the FUSE mount leaves them to the kernel. What ownership decides (sticky directories, attributes) the store decides.

#include <fcntl.h>
#include <sys/stat.h>

#include "pmfs/base/error.h"
#include "pmfs/fs/volume.h"

namespace pmfs {

namespace {

constexpr int kMaxAttempts = 10'000;  // of something that others keep changing, in microseconds each time

using meta::Credentials;

PathWalk::Place last_name(meta::Store& store, std::string_view path) {
  PathWalk::Place p = PathWalk(store, path).to_parent();
  if (p.name.empty()) fail(EBUSY, "'{}': is the root of the volume", path);
  if (p.name == "..") fail(EINVAL, "'{}': ends in '..'", path);
  return p;
}

// For what is made there and is no directory.
PathWalk::Place file_name(meta::Store& store, std::string_view path) {
  PathWalk::Place p = last_name(store, path);
  if (p.must_be_dir) fail(EISDIR, "'{}': ends in '/', so it can name a directory only", path);
  return p;
}

void want_directory(meta::Store& store, const PathWalk::Place& p, std::string_view path) {
  if (p.must_be_dir && !S_ISDIR(store.getattr(store.lookup(p.dir, p.name)).mode))
    fail(ENOTDIR, "'{}': not a directory", path);
}

}  // namespace

Ino MountedVolume::lookup(std::string_view path, FollowLast last) { return PathWalk(*store_, path).to_end(last); }

// The name is looked up once more when the inode can't be freed any more: only then it is known that the number has
// not been given to another file in between.
MountedVolume::Found MountedVolume::find(std::string_view path, FollowLast last) {
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    Found f{lookup(path, last), nullptr};
    try {
      if (!S_ISREG(store_->getattr(f.ino).mode)) return f;
      f.file = inodes_.get(f.ino);
    } catch (const Error& gone) {
      if (gone.err() == ENOENT || gone.err() == EISDIR || gone.err() == ELOOP) continue;
      throw;
    }
    try {
      if (lookup(path, last) == f.ino) return f;
    } catch (const Error& gone) {
      inodes_.put(*f.file);
      if (gone.err() == ENOENT) continue;  // says so itself the next time
      throw;
    }
    inodes_.put(*f.file);
  }
  fail(EBUSY, "{}: keeps being created and removed by others", path);
}

std::shared_ptr<Inode> MountedVolume::open_or_create(std::string_view path, int flags, uint32_t mode,
                                                     const Credentials& who) {
  PathWalk walk(*store_, path);
  PathWalk::Place p = walk.to_parent();
  if (p.name.empty() || p.name == "..") fail(EISDIR, "{}: is a directory", path);
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    try {
      if (p.must_be_dir) fail(EISDIR, "{}: ends in '/': a directory can't be made by open", path);
      return inodes_.get(store_->create(p.dir, p.name, mode & 07777, who));
    } catch (const Error& e) {
      if (e.err() == ENOENT) {  // the new file is gone already, or its directory
        store_->parent(p.dir);
        continue;
      }
      if (e.err() != EEXIST || (flags & O_EXCL)) throw;
    }
    try {
      Ino ino = store_->lookup(p.dir, p.name);
      if (S_ISLNK(store_->getattr(ino).mode)) {
        if (flags & O_NOFOLLOW) fail(ELOOP, "{}: is a symbolic link", path);
        walk.follow(ino);
        p = walk.to_parent();
        if (p.name.empty() || p.name == "..") fail(EISDIR, "{}: leads to a directory", path);
        continue;
      }
      auto inode = inodes_.get(ino);
      bool same = false;
      try {
        same = store_->lookup(p.dir, p.name) == ino;
      } catch (const Error&) {
      }
      if (same) return inode;
      inodes_.put(*inode);
    } catch (const Error& gone) {
      if (gone.err() == EISDIR) fail(EISDIR, "{}: is a directory", path);
      if (gone.err() != ENOENT) throw;  // removed in between: create it after all
    }
  }
  fail(EBUSY, "{}: keeps being created and removed by others", path);
}

std::shared_ptr<Inode> MountedVolume::open(std::string_view path, int flags, uint32_t mode, const Credentials& who) {
  std::shared_ptr<Inode> inode;
  if (flags & O_CREAT) {
    inode = open_or_create(path, flags, mode, who);
  } else {
    Found f = find(path, flags & O_NOFOLLOW ? FollowLast::kNo : FollowLast::kYes);
    if (!f.file) {
      bool link = S_ISLNK(store_->getattr(f.ino).mode);
      fail(link ? ELOOP : EISDIR, "{}: is a {}", path, link ? "symbolic link" : "directory");
    }
    inode = std::move(f.file);
  }
  if ((flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY) {
    try {
      truncate(*inode, 0);
    } catch (...) {
      inodes_.put(*inode);
      throw;
    }
  }
  return inode;
}

void MountedVolume::mkdir(std::string_view path, uint32_t mode, const Credentials& who) {
  PathWalk::Place p = PathWalk(*store_, path).to_parent();
  if (p.name.empty() || p.name == "..") fail(EEXIST, "'{}': exists", path);
  store_->mkdir(p.dir, p.name, mode & 07777, who);
}

void MountedVolume::mknod(std::string_view path, uint32_t mode, const Credentials& who) {
  if ((mode & S_IFMT) != 0 && !S_ISREG(mode)) {
    const char* what = S_ISFIFO(mode)   ? "a FIFO"
                       : S_ISSOCK(mode) ? "a socket"
                       : S_ISCHR(mode)  ? "a character device"
                       : S_ISBLK(mode)  ? "a block device"
                                        : "a special file";
    fail(EPERM, "{}: a pmfs volume holds files, directories and symbolic links only, not {}; make it elsewhere", path,
         what);
  }
  PathWalk::Place p = file_name(*store_, path);
  store_->create(p.dir, p.name, mode & 07777, who);
}

void MountedVolume::symlink(std::string_view target, std::string_view path, const Credentials& who) {
  PathWalk::Place p = file_name(*store_, path);
  store_->symlink(p.dir, p.name, target, who);
}

std::string MountedVolume::readlink(std::string_view path) {
  return store_->readlink(lookup(path, FollowLast::kNo));
}

void MountedVolume::link(std::string_view from, std::string_view to, FollowLast last, const Credentials& who) {
  Found f = find(from, last);
  try {
    PathWalk::Place p = file_name(*store_, to);
    store_->link(f.ino, p.dir, p.name, who);
  } catch (...) {
    if (f.file) inodes_.put(*f.file);
    throw;
  }
  if (f.file) inodes_.put(*f.file);
}

void MountedVolume::rmdir(std::string_view path, const Credentials& who) {
  PathWalk::Place p = last_name(*store_, path);
  rmdir(p.dir, p.name, who);
}

void MountedVolume::rmdir(Ino dir, std::string_view name, const Credentials& who) {
  remove_name([&](const meta::Claim& c) { return store_->rmdir(dir, name, who, c); });
}

void MountedVolume::unlink(Ino dir, std::string_view name, const Credentials& who) {
  remove_name([&](const meta::Claim& c) { return store_->unlink(dir, name, who, c); });
}

void MountedVolume::rename(Ino from_dir, std::string_view from, Ino to_dir, std::string_view to, uint32_t flags,
                           const Credentials& who) {
  remove_name([&](const meta::Claim& c) { return store_->rename(from_dir, from, to_dir, to, flags, who, c); });
}

void MountedVolume::unlink(std::string_view path, const Credentials& who) {
  PathWalk::Place p = last_name(*store_, path);
  want_directory(*store_, p, path);
  unlink(p.dir, p.name, who);
}

void MountedVolume::rename(std::string_view from, std::string_view to, uint32_t flags, const Credentials& who) {
  PathWalk::Place f = last_name(*store_, from), t = last_name(*store_, to);
  want_directory(*store_, f, from);
  if (t.must_be_dir && !S_ISDIR(store_->getattr(store_->lookup(f.dir, f.name)).mode))
    fail(ENOTDIR, "'{}': not a directory", to);
  rename(f.dir, f.name, t.dir, t.name, flags, who);
}

// What takes a name away, and with the last one the inode, if nobody has it. In the grace period somebody may come for what
// nobody has. Pins are looked at as references are: who pins looks the name up once more.
template <class F>
void MountedVolume::remove_name(F&& f) {
  const std::optional<meta::Unlinked> u = f([this](Ino ino, uint32_t mode) {
    if (in_grace_.load()) return false;
    if (S_ISREG(mode)) return inodes_.unused(ino);
    MutexLock l(pins_mutex_);
    return !pins_.contains(to_u64(ino));
  });
  if (!u || !u->last_link) return;
  if (!u->freed) return unlinked(*u);
  freed();
}

// The last link is gone: whoever has the file open or mapped keeps it; the last put() removes it (evict looks at
// the link count). Taking and giving back a reference makes that happen at once where nobody has it.
void MountedVolume::unlinked(const meta::Unlinked& u) {
  if (!S_ISREG(u.mode)) {
    {
      MutexLock l(pins_mutex_);
      if (auto pin = pins_.find(to_u64(u.ino)); pin != pins_.end()) {
        pin->second.nameless = true;
        return;
      }
    }
    return store_->free_inode(u.ino);
  }
  try {
    auto inode = inodes_.get(u.ino);
    inodes_.put(*inode);
  } catch (const Error& e) {
    // Whoever had it open gave it back just now and has freed it; its number may mean something else already.
    if (e.err() != ENOENT && e.err() != EISDIR && e.err() != ELOOP) throw;
  }
}

void MountedVolume::pin(Ino ino) {
  MutexLock l(pins_mutex_);
  ++pins_[to_u64(ino)].count;
}

void MountedVolume::unpin(Ino ino) {
  {
    MutexLock l(pins_mutex_);
    const auto pin = pins_.find(to_u64(ino));
    if (--pin->second.count != 0) return;
    const bool nameless = pin->second.nameless;
    pins_.erase(pin);
    if (!nameless) return;
  }
  store_->free_inode(ino);
}

std::vector<meta::DirEntry> MountedVolume::list(std::string_view path, uint64_t cookie, size_t max) {
  return store_->list(lookup(path, FollowLast::kYes), cookie, max);
}

meta::InodeAttr MountedVolume::stat(std::string_view path, FollowLast last) { return store_->getattr(lookup(path, last)); }

meta::InodeAttr MountedVolume::getattr(Inode& i) { return store_->getattr(i.ino); }

}  // namespace pmfs
