// The one seam to the outside world: system calls whose failure the code must survive, and the clock. Tests
// install a Sys of their own to make a call fail at a chosen moment; everything else uses the kernel's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <sys/types.h>

namespace pmfs {

class Sys {
 public:
  virtual ~Sys() = default;
  // 0 or an errno each.
  virtual int punch_hole(int fd, uint64_t offset, uint64_t bytes);
  virtual int populate_write(void* p, size_t bytes);  // MADV_POPULATE_WRITE
  virtual int write_at(int fd, const void* p, size_t bytes, uint64_t offset);  // all of it
  virtual int uffd_ioctl(int fd, unsigned long request, void* arg);
  virtual int ftruncate(int fd, uint64_t bytes);
  // The file has memory for all of [offset, offset + bytes), zeros where it had none, and is that long at least; nothing
  // of it if it fails. fallocate, mode 0.
  virtual int allocate(int fd, uint64_t offset, uint64_t bytes);
  virtual int file_bytes(int fd, uint64_t* bytes);
  virtual int64_t realtime_ns();
  virtual int64_t monotonic_ns();
};

Sys& sys();
Sys* set_sys(Sys* s);  // null: the kernel's again; returns the previous one. Only while nothing else runs.

}  // namespace pmfs
