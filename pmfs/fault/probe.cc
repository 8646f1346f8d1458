// Whether this kernel can do what a mode needs, tried on pages of our own rather than guessed from a version number.

#include "pmfs/fault/probe.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "pmfs/base/error.h"
#include "pmfs/base/types.h"
#include "pmfs/fault/uffd.h"

namespace pmfs::fault {

namespace {

// /dev/userfaultfd, and shmem registered for write-protect faults, are what acked mode needs.
constexpr const char* kAckedNeeds = "needs Linux 6.1 or later";

class Page {  // a registered page of a memfd without a PTE; `filled`: with a page in the page cache
 public:
  Page(int uffd, bool filled) : memfd_(::memfd_create("pmfs-probe", MFD_CLOEXEC)) {
    if (!memfd_ || ::ftruncate(memfd_.get(), kBlockSize) != 0 || (filled && ::pwrite(memfd_.get(), "", 1, 0) != 1))
      fail(errno, "probe: no memfd: {}", std::strerror(errno));
    p_ = ::mmap(nullptr, kBlockSize, PROT_READ | PROT_WRITE, MAP_SHARED, memfd_.get(), 0);
    if (p_ == MAP_FAILED) fail(errno, "probe: no mapping: {}", std::strerror(errno));
    uffdio_register r{};
    r.range = {address(), kBlockSize};
    r.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP;
    if (::ioctl(uffd, UFFDIO_REGISTER, &r) != 0) {
      int err = errno;
      ::munmap(p_, kBlockSize);
      fail(ENOTSUP, "this kernel's userfaultfd can't register a tmpfs page for minor, missing and write-protect faults ({}); {}",
           std::strerror(err), kAckedNeeds);
    }
  }
  ~Page() { ::munmap(p_, kBlockSize); }
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;
  uint64_t address() const { return reinterpret_cast<uint64_t>(p_); }

 private:
  UniqueFd memfd_;
  void* p_ = nullptr;
};

UniqueFd make_uffd(int uffd_device) {
  UniqueFd fd(::ioctl(uffd_device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
  if (!fd) fail(ENOTSUP, "/dev/userfaultfd gives no userfaultfd: {}; {}", std::strerror(errno), kAckedNeeds);
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = kUffdFeatures;
  if (::ioctl(fd.get(), UFFDIO_API, &api) != 0)
    fail(ENOTSUP, "this kernel's userfaultfd lacks features (has {:#x}, needs {:#x}); {}", api.features, uint64_t{kUffdFeatures},
         kAckedNeeds);
  return fd;
}

}  // namespace

void probe_acked(int uffd_device) {
  UniqueFd fd = make_uffd(uffd_device);
  const Page page(fd.get(), false);
  Uffd uffd(std::move(fd));
  uint64_t mapped = 0;
  if (int err = uffd.show_zeros(page.address(), kBlockSize, &mapped))
    fail(ENOTSUP, "this kernel's userfaultfd can't fill a page write-protected ({}); {}", std::strerror(err), kAckedNeeds);
}

void probe_gated(int uffd_device) {
  UniqueFd fd = make_uffd(uffd_device);
  const Page page(fd.get(), true);
  Uffd uffd(std::move(fd));
  uint64_t mapped = 0;
  if (int err = uffd.install(page.address(), kBlockSize, true, &mapped))
    fail(ENOTSUP, "this kernel's userfaultfd can't install a page write-protected ({}); a region on tmpfs needs Linux 6.4 or later",
         std::strerror(err));
}

}  // namespace pmfs::fault
