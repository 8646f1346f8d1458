// libpmfs_preload.so: the memory calls of a program whose files may be on a FUSE mount of pmfs. All its fds are the kernel's.
//
// A shared mapping is asked of the kernel first. It refuses one on the mount (ENODEV; EOPNOTSUPP with MAP_SYNC), and only then we
// look what the fd is: PMFS_IOC_FILE. So files elsewhere cost nothing, and no table of fds has to follow dup, fork and exec.
// Mappings of pmfs are known by their addresses (span_filter.h, then libpmfs).
//
//   call           of files elsewhere             of a mapping of pmfs
//   mmap shared    the kernel                     libpmfs
//   mmap private   the kernel: on the mount a copy of each page as it is when it is first touched
//   munmap, mmap over it                          released by libpmfs, the addresses then go to the kernel's call
//   mremap, mprotect, msync, madvise              libpmfs; the kernel too where others' memory may be in the range
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <sys/vfs.h>

#include "lib/memory_calls.h"
#include "lib/preload/library.h"
#include "lib/preload/log.h"
#include "lib/preload/span_filter.h"
#include "pmfs/ioctl.h"

namespace pmfs::preload {
namespace {

constinit SpanFilter g_filter;

// A call that succeeds leaves errno as it was, whatever was tried on the way: LMDB, for one, looks at what an earlier call of its
// own has left there.
class KeepErrno {
 public:
  template <class T>
  T unless(T failed, T result) const {
    if (result != failed) errno = saved_;
    return result;
  }

 private:
  const int saved_ = errno;
};

// The library, if some of the range is a mapping of pmfs.
const Library* whose(const void* addr, size_t length) {
  if (!g_filter.may_have(addr, length) || Inside::here()) return nullptr;
  const Library* l = loaded_library();
  if (l == nullptr) return nullptr;
  const Inside inside;
  const int saved = errno;
  const bool ours = l->mapped(addr, length) != 0;
  errno = saved;
  return ours ? l : nullptr;
}

// 0, or -1 with errno: then nothing is to be mapped there.
int release(void* addr, size_t length, const char* call) {
  const Library* l = whose(addr, length);
  if (l == nullptr) return 0;
  const Inside inside;
  const KeepErrno keep;
  const int rc = l->release(addr, length);
  if (rc != 0) warn("%s of %zu bytes at %p: %s", call, length, addr, l->strerror());
  return keep.unless(-1, rc);
}

bool is_pmfs(int fd, pmfs_ioc_file* f) {
  struct statfs fs;
  const int saved = errno;
  const bool yes = fstatfs(fd, &fs) == 0 && fs.f_type == FUSE_SUPER_MAGIC && ioctl(fd, PMFS_IOC_FILE, f) == 0;
  errno = saved;
  return yes;
}

void* map_pmfs(const pmfs_ioc_file& f, void* addr, size_t length, int prot, int flags, int fd, off_t offset) {
  const Library* l = library();
  if (l == nullptr) {
    errno = ENODEV;  // what the kernel says
    return MAP_FAILED;
  }
  const int mode = fcntl(fd, F_GETFL) & O_ACCMODE;
  if (mode == O_WRONLY || ((prot & PROT_WRITE) != 0 && mode != O_RDWR)) {
    errno = EACCES;
    return MAP_FAILED;
  }
  const Inside inside;
  void* p = l->map(f.volume, f.ino, f.generation, mode, addr, length, prot, flags, offset);
  if (p == MAP_FAILED) {
    warn("mmap of %zu bytes of fd %d: %s", length, fd, l->strerror());
  } else {
    g_filter.add(p, length);
  }
  return p;
}

void* map(void* addr, size_t length, int prot, int flags, int fd, off_t offset) {
  const KeepErrno keep;
  const int kind = flags & MAP_TYPE;
  const bool shared_file = (kind == MAP_SHARED || kind == MAP_SHARED_VALIDATE) && (flags & MAP_ANONYMOUS) == 0 && fd >= 0;
  const bool replaces = (flags & MAP_FIXED) != 0 && (flags & MAP_FIXED_NOREPLACE) != MAP_FIXED_NOREPLACE;
  pmfs_ioc_file f;
  // To be known beforehand: some kernels have unmapped the range by the time they refuse.
  if (shared_file && replaces && is_pmfs(fd, &f)) return keep.unless(MAP_FAILED, map_pmfs(f, addr, length, prot, flags, fd, offset));
  if (replaces && release(addr, length, "mmap over") != 0) return MAP_FAILED;
  void* p = kernel::mmap(addr, length, prot, flags, fd, offset);
  if (p != MAP_FAILED || !shared_file || replaces || (errno != ENODEV && errno != EOPNOTSUPP) || Inside::here()) return p;
  if (!is_pmfs(fd, &f)) return p;
  return keep.unless(MAP_FAILED, map_pmfs(f, addr, length, prot, flags, fd, offset));
}

int refuse(const char* call, const void* addr, size_t length, int err, const char* why) {
  warn("%s of %zu bytes at %p: %s", call, length, addr, why);
  errno = err;
  return -1;
}

}  // namespace
}  // namespace pmfs::preload

using namespace pmfs::preload;

#pragma GCC visibility push(default)
extern "C" {

void* mmap(void* addr, size_t length, int prot, int flags, int fd, off_t offset) noexcept {
  return map(addr, length, prot, flags, fd, offset);
}

void* mmap64(void* addr, size_t length, int prot, int flags, int fd, off64_t offset) noexcept {
  return map(addr, length, prot, flags, fd, offset);
}

int munmap(void* addr, size_t length) noexcept {
  if (release(addr, length, "munmap") != 0) return -1;
  return pmfs::kernel::munmap(addr, length);
}

int mprotect(void* addr, size_t length, int prot) noexcept {
  if (const Library* l = whose(addr, length)) {
    const Inside inside;
    const KeepErrno keep;
    if (const int rc = keep.unless(-1, l->mprotect(addr, length, prot)); rc != 0) {
      warn("mprotect of %zu bytes at %p: %s", length, addr, l->strerror());
      return rc;
    }
  }
  return pmfs::kernel::mprotect(addr, length, prot);
}

int pkey_mprotect(void* addr, size_t length, int prot, int key) noexcept {
  if (key == -1) return mprotect(addr, length, prot);
  if (whose(addr, length) != nullptr) return refuse("pkey_mprotect", addr, length, EINVAL, "mapped files have no keys");
  return static_cast<int>(syscall(SYS_pkey_mprotect, addr, length, prot, key));
}

int msync(void* addr, size_t length, int flags) {
  if (const Library* l = whose(addr, length)) {
    const Inside inside;
    const KeepErrno keep;
    if (const int rc = keep.unless(-1, l->msync(addr, length, flags)); rc != 0) {
      warn("msync of %zu bytes at %p: %s", length, addr, l->strerror());
      return rc;
    }
  }
  return pmfs::kernel::msync(addr, length, flags);
}

int madvise(void* addr, size_t length, int advice) noexcept {
  const Library* l = whose(addr, length);
  if (l == nullptr) return pmfs::kernel::madvise(addr, length, advice);
  const Inside inside;
  const KeepErrno keep;
  const int rc = keep.unless(-1, l->madvise(addr, length, advice));
  if (rc != 0) warn("madvise %d of %zu bytes at %p: %s", advice, length, addr, l->strerror());
  return rc;
}

void* mremap(void* old, size_t old_length, size_t new_length, int flags, ...) noexcept {
  void* new_addr = nullptr;
  if ((flags & MREMAP_FIXED) != 0) {
    va_list args;
    va_start(args, flags);
    new_addr = va_arg(args, void*);
    va_end(args);
  }
  if (const Library* l = whose(old, old_length == 0 ? 1 : old_length)) {
    const Inside inside;
    const KeepErrno keep;
    void* p = keep.unless(MAP_FAILED, l->mremap(old, old_length, new_length, flags, new_addr));
    if (p == MAP_FAILED) {
      warn("mremap of %zu bytes at %p: %s", old_length, old, l->strerror());
    } else {
      g_filter.add(p, new_length);
    }
    return p;
  }
  if ((flags & MREMAP_FIXED) != 0 && release(new_addr, new_length, "mremap over") != 0) return MAP_FAILED;
  return reinterpret_cast<void*>(syscall(SYS_mremap, old, old_length, new_length, flags, new_addr));
}

int remap_file_pages(void* addr, size_t length, int prot, size_t page, int flags) noexcept {
  if (whose(addr, length) != nullptr) {
    return refuse("remap_file_pages", addr, length, EINVAL, "map the parts one by one instead");
  }
  return static_cast<int>(syscall(SYS_remap_file_pages, addr, length, prot, page, flags));
}

}  // extern "C"
#pragma GCC visibility pop
