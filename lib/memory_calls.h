// The kernel's memory calls, not libc's symbols of these names: those may be the preload shim's, which calls us.
#pragma once

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>

namespace pmfs::kernel {

inline void* mmap(void* addr, size_t length, int prot, int flags, int fd, off_t offset) {
  return reinterpret_cast<void*>(syscall(SYS_mmap, addr, length, prot, flags, fd, offset));  // MAP_FAILED is -1
}
inline int munmap(void* addr, size_t length) { return static_cast<int>(syscall(SYS_munmap, addr, length)); }
inline int mprotect(void* addr, size_t length, int prot) { return static_cast<int>(syscall(SYS_mprotect, addr, length, prot)); }
inline int madvise(void* addr, size_t length, int advice) { return static_cast<int>(syscall(SYS_madvise, addr, length, advice)); }
inline int msync(void* addr, size_t length, int flags) { return static_cast<int>(syscall(SYS_msync, addr, length, flags)); }

}  // namespace pmfs::kernel
