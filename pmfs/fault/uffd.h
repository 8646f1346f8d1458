// The manager's end of one client's userfaultfd. Every call names its errors as the kernel does; none waits for
// the client (they take its mmap_lock or a VMA lock, which it can't hold while it is stopped).
#pragma once

#include <cstddef>
#include <cstdint>

#include <linux/userfaultfd.h>

#include "pmfs/base/unique_fd.h"

namespace pmfs::fault {

inline constexpr uint64_t kUffdFeatures = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM |
                                          UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_PAGEFAULT_FLAG_WP |
                                          UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_THREAD_ID;

inline constexpr uint64_t kUffdHugetlb = UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MINOR_HUGETLBFS;  // for regions there

class Uffd {
 public:
  // Takes the fd over. Throws Error(EINVAL) if it is no userfaultfd.
  explicit Uffd(UniqueFd fd);
  int fd() const { return fd_.get(); }

  // Reads at most `max` messages; 0 when there is none. Does not block, even if the client, who shares the open
  // file, has cleared O_NONBLOCK (before Linux 6.10: unless it does so at this very moment).
  size_t read(uffd_msg* out, size_t max);

  // 0 or an errno each; `va`, `bytes` page-aligned.
  // UFFDIO_CONTINUE: installs what the page cache has at this VMA's offset. *mapped: bytes installed, also on error.
  int install(uint64_t va, uint64_t bytes, bool write_protected, uint64_t* mapped);
  // Stores to present pages of the range raise a WP event from now on. ENOENT: not all of it is registered for that.
  int protect(uint64_t va, uint64_t bytes);
  int unprotect(uint64_t va, uint64_t bytes);  // UFFDIO_WRITEPROTECT, mode 0: wakes too
  // UFFDIO_COPY of zeros, write-protected, into pages of a memfd that it does not have yet: at most kMaxZeros bytes. EEXIST: it has
  // the first one.
  static constexpr uint64_t kMaxZeros = 16 * 4096;
  int show_zeros(uint64_t va, uint64_t bytes, uint64_t* mapped);
  int wake(uint64_t va, uint64_t bytes);
  int poison(uint64_t va, uint64_t bytes);  // SIGBUS from now on; the last resort

 private:
  UniqueFd fd_;
};

}  // namespace pmfs::fault
