// Paths: walking them, and the namespace operations by path.

#include <fcntl.h>
#include <sys/stat.h>

#include "pmfs/base/error.h"
#include "pmfs/fs/volume.h"

namespace pmfs {

namespace {

std::vector<std::string> components(std::string_view path) {
  if (path.empty() || path[0] != '/')
    fail(EINVAL, "path '{}': must be absolute within the volume, as in /dir/file", path);
  if (path.find('\0') != std::string_view::npos) fail(EINVAL, "path with a NUL byte");
  std::vector<std::string> out;
  while (!path.empty()) {
    size_t slash = path.find('/');
    std::string_view c = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
    if (c.empty() || c == ".") continue;
    if (c.size() > meta::kMaxName) fail(ENAMETOOLONG, "name of {} bytes; at most {}", c.size(), meta::kMaxName);
    out.emplace_back(c);
  }
  return out;
}

Ino step(meta::Store& store, Ino dir, const std::string& name, std::string_view path) {
  try {
    return name == ".." ? store.parent(dir) : store.lookup(dir, name);
  } catch (const Error& e) {
    fail(e.err(), "{}: '{}': {}", path, name, e.message());
  }
}

}  // namespace

Ino MountedVolume::lookup(std::string_view path) {
  Ino at = kRootIno;
  for (const auto& c : components(path)) at = step(*store_, at, c, path);
  return at;
}

MountedVolume::Parent MountedVolume::resolve_parent(std::string_view path) {
  auto c = components(path);
  if (c.empty()) fail(EBUSY, "'{}': is the root of the volume", path);
  if (c.back() == "..") fail(EINVAL, "'{}': ends in '..'", path);
  Ino at = kRootIno;
  for (size_t k = 0; k + 1 < c.size(); ++k) at = step(*store_, at, c[k], path);
  return {at, c.back()};
}

std::shared_ptr<Inode> MountedVolume::open(std::string_view path, int flags, uint32_t mode, uint32_t uid, uint32_t gid) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    Ino ino;
    if (flags & O_CREAT) {
      Parent p = resolve_parent(path);
      try {
        ino = store_->create(p.dir, p.name, mode & 07777, uid, gid);
      } catch (const Error& e) {
        if (e.err() != EEXIST || (flags & O_EXCL)) throw;
        try {
          ino = store_->lookup(p.dir, p.name);
        } catch (const Error& gone) {
          if (gone.err() == ENOENT) continue;  // removed in between: create it after all
          throw;
        }
      }
    } else {
      ino = lookup(path);
    }
    std::shared_ptr<Inode> inode;
    try {
      inode = inodes_.get(ino);
    } catch (const Error& gone) {
      if (gone.err() == ENOENT && (flags & O_CREAT) && !(flags & O_EXCL)) continue;
      if (gone.err() == EISDIR) fail(EISDIR, "{}: is a directory", path);
      throw;
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
  fail(EBUSY, "{}: keeps being created and removed by others", path);
}

void MountedVolume::mkdir(std::string_view path, uint32_t mode, uint32_t uid, uint32_t gid) {
  auto c = components(path);
  if (c.empty()) fail(EEXIST, "'{}': exists", path);
  Parent p = resolve_parent(path);
  store_->mkdir(p.dir, p.name, mode & 07777, uid, gid);
}

void MountedVolume::rmdir(std::string_view path) {
  Parent p = resolve_parent(path);
  unlinked(store_->rmdir(p.dir, p.name));
}

void MountedVolume::unlink(std::string_view path) {
  Parent p = resolve_parent(path);
  unlinked(store_->unlink(p.dir, p.name));
}

void MountedVolume::rename(std::string_view from, std::string_view to) {
  Parent f = resolve_parent(from), t = resolve_parent(to);
  if (auto replaced = store_->rename(f.dir, f.name, t.dir, t.name)) unlinked(*replaced);
}

// The last link is gone: whoever has the file open or mapped keeps it; the last put() removes it (evict looks at
// the link count). Taking and giving back a reference makes that happen at once where nobody has it.
void MountedVolume::unlinked(const meta::Unlinked& u) {
  if (!u.last_link) return;
  if (S_ISDIR(store_->getattr(u.ino).mode)) return store_->free_inode(u.ino);  // nobody has a directory open
  auto inode = inodes_.get(u.ino);
  inodes_.put(*inode);
}

std::vector<meta::DirEntry> MountedVolume::list(std::string_view path, uint64_t cookie, size_t max) {
  return store_->list(lookup(path), cookie, max);
}

meta::InodeAttr MountedVolume::stat(std::string_view path) {
  Ino ino = lookup(path);
  meta::InodeAttr a = store_->getattr(ino);
  return a;
}

meta::InodeAttr MountedVolume::getattr(Inode& i) { return store_->getattr(i.ino); }

}  // namespace pmfs
