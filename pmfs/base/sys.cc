#include "pmfs/base/sys.h"

#include <atomic>
#include <cerrno>
#include <ctime>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace pmfs {

namespace {
Sys g_kernel;
std::atomic<Sys*> g_sys{&g_kernel};

int64_t clock_ns(clockid_t id) {
  timespec ts;
  clock_gettime(id, &ts);
  return int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec;
}
}  // namespace

int Sys::punch_hole(int fd, uint64_t offset, uint64_t bytes) {
  return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                     static_cast<off_t>(bytes)) == 0
             ? 0
             : errno;
}
int Sys::populate_write(void* p, size_t bytes) { return ::madvise(p, bytes, MADV_POPULATE_WRITE) == 0 ? 0 : errno; }
int Sys::allocate(int fd, uint64_t offset, uint64_t bytes) {
  return ::fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes)) == 0 ? 0 : errno;
}
int Sys::file_bytes(int fd, uint64_t* bytes) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return errno;
  *bytes = static_cast<uint64_t>(st.st_size);
  return 0;
}
int Sys::write_at(int fd, const void* p, size_t bytes, uint64_t offset) {
  for (auto* at = static_cast<const char*>(p); bytes > 0;) {
    ssize_t n = ::pwrite(fd, at, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno != EINTR) return errno;
    if (n <= 0) continue;
    at += n;
    offset += static_cast<uint64_t>(n);
    bytes -= static_cast<size_t>(n);
  }
  return 0;
}
int Sys::uffd_ioctl(int fd, unsigned long request, void* arg) { return ::ioctl(fd, request, arg) == 0 ? 0 : errno; }
int Sys::ftruncate(int fd, uint64_t bytes) { return ::ftruncate(fd, static_cast<off_t>(bytes)) == 0 ? 0 : errno; }
int64_t Sys::realtime_ns() { return clock_ns(CLOCK_REALTIME); }
int64_t Sys::monotonic_ns() { return clock_ns(CLOCK_MONOTONIC); }

Sys& sys() { return *g_sys.load(std::memory_order_acquire); }
Sys* set_sys(Sys* s) { return g_sys.exchange(s ? s : &g_kernel, std::memory_order_acq_rel); }

}  // namespace pmfs
