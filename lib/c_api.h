// What the files of the C API share: the table of its file descriptors, and exceptions turned into errno.
#pragma once

#include <cerrno>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "lib/fork.h"
#include "pmfs/base/error.h"
#include "pmfs/base/mutex.h"
#include "pmfs/pmfs.h"
#include "pmfs/pmfs.hpp"

struct pmfs_volume {
  pmfs::Volume volume;
};

namespace pmfs::c_api {

// fd -> File. Fd 0 is never given out. Locked inside a ForkGate::Pass, so that a fork never meets it locked.
class FdTable {
 public:
  int add(std::shared_ptr<File> f) {
    ForkGate::Pass pass;
    MutexLock l(mutex_);
    size_t i = 1;
    while (i < files_.size() && files_[i]) ++i;
    if (i >= files_.size()) files_.resize(i + 1);
    files_[i] = std::move(f);
    return static_cast<int>(i);
  }
  std::shared_ptr<File> get(int fd) {
    ForkGate::Pass pass;
    MutexLock l(mutex_);
    check(fd);
    return files_[static_cast<size_t>(fd)];
  }
  std::shared_ptr<File> remove(int fd) {
    ForkGate::Pass pass;
    MutexLock l(mutex_);
    check(fd);
    return std::move(files_[static_cast<size_t>(fd)]);
  }

 private:
  void check(int fd) REQUIRES(mutex_) {
    if (fd < 0 || static_cast<size_t>(fd) >= files_.size() || !files_[static_cast<size_t>(fd)]) {
      fail(EBADF, "{} is not an open pmfs file", fd);
    }
  }
  Mutex mutex_{LockRank::kLeaf, "C fd table"};
  std::vector<std::shared_ptr<File>> files_ GUARDED_BY(mutex_);
};

FdTable& fds();
void set_error(const char* sentence) noexcept;  // of this thread's last error

// Runs body; on an exception: errno, the sentence, and `failed`.
template <class T, class Body>
T guarded(T failed, Body&& body) noexcept {
  int err;
  try {
    return body();
  } catch (const Error& e) {
    err = e.err();
    set_error(e.what());
  } catch (const std::bad_alloc&) {
    err = ENOMEM;
    set_error("out of memory");
  } catch (const std::exception& e) {
    err = EIO;
    set_error(e.what());
  }
  errno = err;
  return failed;
}

// Of mmap(2). EINVAL, EOPNOTSUPP: what can't be had.
void check_map_flags(int flags);
void* map(File& f, void* addr, size_t length, int prot, int flags, off_t offset);

// off_t to what the C++ API takes. EINVAL: negative.
uint64_t position(off_t v, const char* what);
void fill(const Stat& s, struct stat* st);

inline const char* path_or_fail(const char* path) {
  if (path == nullptr) fail(EFAULT, "a null path");
  return path;
}

template <class Body>
int on_path(pmfs_volume* v, const char* path, Body&& body) {
  return guarded(-1, [&] {
    if (v == nullptr) fail(EINVAL, "a null volume");
    body(v->volume, path_or_fail(path));
    return 0;
  });
}

}  // namespace pmfs::c_api
