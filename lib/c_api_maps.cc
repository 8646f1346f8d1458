// Mappings of the C API.
#include <sys/mman.h>

#include "lib/c_api.h"
#include "lib/memory_calls.h"
#include "lib/pieces.h"

using namespace pmfs::c_api;
using pmfs::fail;

namespace {

// What mmap(2) may be asked that means something here, or nothing.
constexpr int kPlace = MAP_FIXED | MAP_FIXED_NOREPLACE;
constexpr int kHarmless = MAP_NORESERVE | MAP_LOCKED | MAP_NONBLOCK | MAP_STACK | MAP_DENYWRITE | MAP_EXECUTABLE;

}  // namespace

namespace pmfs::c_api {

void check_map_flags(int flags) {
  const int kind = flags & MAP_TYPE;
  if (kind == MAP_PRIVATE) fail(EOPNOTSUPP, "a private mapping: read the file into memory of your own instead");
  if (kind != MAP_SHARED && kind != MAP_SHARED_VALIDATE) fail(EINVAL, "mmap flags {:#x}: not a shared mapping", flags);
  const int rest = flags & ~(MAP_TYPE | kPlace | kHarmless | MAP_POPULATE | MAP_SYNC);
  if (rest != 0) fail(kind == MAP_SHARED_VALIDATE ? EOPNOTSUPP : EINVAL, "mmap flags {:#x}: {:#x} can't be had", flags, rest);
}

void* map(File& f, void* addr, size_t length, int prot, int flags, off_t offset) {
  void* p = f.map_at(addr, flags & kPlace, position(offset, "offset"), length, prot).release();
  // Best effort, as of mmap(2): what is behind the end of the file can't be.
  if ((flags & (MAP_POPULATE | MAP_LOCKED)) != 0 && (prot & PROT_READ) != 0) kernel::madvise(p, length, MADV_POPULATE_READ);
  return p;
}

}  // namespace pmfs::c_api

extern "C" {

void* pmfs_mmap(void* addr, size_t length, int prot, int flags, int fd, off_t offset) {
  return guarded(MAP_FAILED, [&]() -> void* {
    check_map_flags(flags);
    return map(*fds().get(fd), addr, length, prot, flags, offset);
  });
}

int pmfs_munmap(void* addr, size_t length) {
  return guarded(-1, [&] {
    pmfs::unmap_range(addr, length);
    return 0;
  });
}

void* pmfs_mremap(void* old, size_t old_length, size_t new_length, int flags, void* new_addr) {
  return guarded(MAP_FAILED, [&] { return pmfs::remap_range(old, old_length, new_length, flags, new_addr); });
}

int pmfs_mprotect(void* addr, size_t length, int prot) {
  return guarded(-1, [&] {
    pmfs::protect_range(addr, length, prot);
    return 0;
  });
}

int pmfs_msync(void* addr, size_t length, int flags) {
  return guarded(-1, [&] {
    if ((flags & ~(MS_ASYNC | MS_SYNC | MS_INVALIDATE)) != 0 || (flags & (MS_ASYNC | MS_SYNC)) == (MS_ASYNC | MS_SYNC)) {
      fail(EINVAL, "msync flags {:#x}", flags);
    }
    if (length != 0) pmfs::sync_range(addr, length);
    return 0;
  });
}

int pmfs_madvise(void* addr, size_t length, int advice) {
  return guarded(-1, [&] {
    if (length == 0) return 0;
    switch (advice) {
      case MADV_REMOVE: pmfs::punch_range(addr, length); return 0;
      case MADV_DONTFORK:
      case MADV_DOFORK: pmfs::set_fork(addr, length, advice == MADV_DOFORK); return 0;
      default: break;
    }
    if (pmfs::kernel::madvise(addr, length, advice) != 0) fail(errno, "madvise {} of {} bytes at {}", advice, length, addr);
    return 0;
  });
}

}  // extern "C"
