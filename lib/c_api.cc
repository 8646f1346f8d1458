// The C API over the C++ one: error codes instead of exceptions, small integers instead of File objects.
#include "lib/c_api.h"

#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <climits>


namespace pmfs::c_api {
namespace {
thread_local std::string t_error;
}

FdTable& fds() {
  static FdTable* t = new FdTable;
  return *t;
}

void set_error(const char* sentence) noexcept {
  try {
    t_error = sentence;
  } catch (const std::bad_alloc&) {
    t_error.clear();
  }
}

uint64_t position(off_t v, const char* what) {
  if (v < 0) fail(EINVAL, "a negative {}: {}", what, v);
  return static_cast<uint64_t>(v);
}

void fill(const Stat& s, struct stat* st) {
  *st = {};
  auto ts = [](int64_t ns) {
    constexpr int64_t kSecond = 1'000'000'000;
    timespec t{};
    t.tv_nsec = (ns % kSecond + kSecond) % kSecond;  // never negative, before 1970 either
    t.tv_sec = (ns - t.tv_nsec) / kSecond;
    return t;
  };
  st->st_ino = s.ino;
  st->st_mode = s.mode;
  st->st_nlink = s.nlink;
  st->st_uid = s.uid;
  st->st_gid = s.gid;
  st->st_size = static_cast<off_t>(s.size);
  st->st_blksize = s.blksize;
  st->st_blocks = static_cast<blkcnt_t>(s.blocks * 8);  // of 512 bytes
  st->st_atim = ts(s.atime_ns);
  st->st_mtim = ts(s.mtime_ns);
  st->st_ctim = ts(s.ctime_ns);
}

}  // namespace pmfs::c_api

using namespace pmfs::c_api;
using pmfs::fail;

extern "C" {

pmfs_volume* pmfs_connect(const char* volume_path) {
  return guarded(static_cast<pmfs_volume*>(nullptr),
                 [&] { return new pmfs_volume{pmfs::Volume(path_or_fail(volume_path))}; });
}

pmfs_volume* pmfs_connect_read_only(const char* volume_path) {
  return guarded(static_cast<pmfs_volume*>(nullptr),
                 [&] { return new pmfs_volume{pmfs::Volume(path_or_fail(volume_path), pmfs::Access::kReadOnly)}; });
}

void pmfs_disconnect(pmfs_volume* v) { delete v; }

int pmfs_open(pmfs_volume* v, const char* path, int flags, mode_t mode) {
  return guarded(-1, [&] {
    if (v == nullptr) fail(EINVAL, "a null volume");
    return fds().add(std::make_shared<pmfs::File>(v->volume.open(path_or_fail(path), flags, mode)));
  });
}

int pmfs_open_inode(pmfs_volume* v, uint64_t ino, uint64_t generation, int flags) {
  return guarded(-1, [&] {
    if (v == nullptr) fail(EINVAL, "a null volume");
    return fds().add(std::make_shared<pmfs::File>(v->volume.open_inode(ino, generation, flags)));
  });
}

int pmfs_close(int fd) {
  return guarded(-1, [&] {
    auto f = fds().remove(fd);
    if (f.use_count() == 1) f->close();  // else closed when another thread's call on it ends
    return 0;
  });
}

ssize_t pmfs_pread(int fd, void* buf, size_t n, off_t offset) {
  return guarded(ssize_t{-1}, [&] {
    return static_cast<ssize_t>(fds().get(fd)->read({static_cast<std::byte*>(buf), n}, position(offset, "offset")));
  });
}

ssize_t pmfs_pwrite(int fd, const void* buf, size_t n, off_t offset) {
  return guarded(ssize_t{-1}, [&] {
    const std::span<const std::byte> in(static_cast<const std::byte*>(buf), n);
    return static_cast<ssize_t>(fds().get(fd)->write(in, position(offset, "offset")));
  });
}

ssize_t pmfs_append(int fd, const void* buf, size_t n) {
  return guarded(ssize_t{-1}, [&] {
    fds().get(fd)->append({static_cast<const std::byte*>(buf), n});
    return static_cast<ssize_t>(n);
  });
}

int pmfs_ftruncate(int fd, off_t size) {
  return guarded(-1, [&] {
    fds().get(fd)->truncate(position(size, "size"));
    return 0;
  });
}

int pmfs_fallocate(int fd, int mode, off_t offset, off_t length) {
  return guarded(-1, [&] {
    const auto f = fds().get(fd);
    const uint64_t at = position(offset, "offset"), n = position(length, "length");
    switch (mode) {
      case 0: f->preallocate(at, n); break;
      case FALLOC_FL_KEEP_SIZE: f->preallocate(at, n, true); break;
      case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE: f->punch(at, n); break;
      case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE: f->zero_range(at, n); break;
      case FALLOC_FL_ZERO_RANGE:  // also allocates and extends
        f->zero_range(at, n);
        f->preallocate(at, n);
        break;
      case FALLOC_FL_COLLAPSE_RANGE: f->collapse(at, n); break;
      case FALLOC_FL_INSERT_RANGE: f->insert(at, n); break;
      default: fail(EOPNOTSUPP, "fallocate mode {:#x} is not one of those in pmfs.h", mode);
    }
    return 0;
  });
}

off_t pmfs_seek(int fd, off_t offset, int whence) {
  return guarded(off_t{-1}, [&] {
    const auto f = fds().get(fd);
    const uint64_t at = position(offset, "offset");
    if (whence == SEEK_DATA) return static_cast<off_t>(f->seek_data(at));
    if (whence == SEEK_HOLE) return static_cast<off_t>(f->seek_hole(at));
    fail(EINVAL, "seek {}: only SEEK_DATA and SEEK_HOLE", whence);
  });
}

int pmfs_clone_range(int from, off_t from_offset, off_t n, int to, off_t to_offset) {
  return guarded(-1, [&] {
    const auto a = fds().get(from), b = fds().get(to);
    a->clone_to(position(from_offset, "offset"), *b, position(to_offset, "offset"), position(n, "length"));
    return 0;
  });
}

ssize_t pmfs_copy_file_range(int from, off_t from_offset, int to, off_t to_offset, size_t n) {
  return guarded(ssize_t{-1}, [&] {
    const auto a = fds().get(from), b = fds().get(to);
    const uint64_t most = std::min<uint64_t>(n, SSIZE_MAX);
    return static_cast<ssize_t>(a->copy_to(position(from_offset, "offset"), *b, position(to_offset, "offset"), most));
  });
}

int pmfs_fsync(int fd) {
  return guarded(-1, [&] {
    fds().get(fd)->fsync();
    return 0;
  });
}

int pmfs_fstat(int fd, struct stat* st) {
  return guarded(-1, [&] {
    fill(fds().get(fd)->stat(), st);
    return 0;
  });
}

int pmfs_stat(pmfs_volume* v, const char* path, struct stat* st) {
  return on_path(v, path, [&](pmfs::Volume& vol, const char* p) { fill(vol.stat(p), st); });
}

int pmfs_mkdir(pmfs_volume* v, const char* path, mode_t mode) {
  return on_path(v, path, [&](pmfs::Volume& vol, const char* p) { vol.mkdir(p, mode); });
}

int pmfs_rmdir(pmfs_volume* v, const char* path) {
  return on_path(v, path, [](pmfs::Volume& vol, const char* p) { vol.rmdir(p); });
}

int pmfs_unlink(pmfs_volume* v, const char* path) {
  return on_path(v, path, [](pmfs::Volume& vol, const char* p) { vol.unlink(p); });
}

int pmfs_rename(pmfs_volume* v, const char* from, const char* to) {
  return on_path(v, from, [&](pmfs::Volume& vol, const char* p) { vol.rename(p, path_or_fail(to)); });
}

void pmfs_persist(const void* p, size_t bytes) { pmfs::persist(p, bytes); }

const char* pmfs_strerror(void) { return pmfs::c_api::t_error.c_str(); }

}  // extern "C"
