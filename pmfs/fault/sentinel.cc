#include "pmfs/fault/sentinel.h"

#include <sys/mman.h>

#include "pmfs/base/error.h"
#include "pmfs/base/sys.h"

namespace pmfs::fault {

namespace {
UniqueFd make_memfd(const char* name) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC));
  if (!fd) fail(errno, "can't create a memfd: too many files open in the manager? (ulimit -n)");
  return fd;
}
}  // namespace

Sentinel::Sentinel(InodeRef inode) : inode_(std::move(inode)), fd_(make_memfd("pmfs-sentinel")) {
  inode_->add_listener(this);
}

Sentinel::~Sentinel() { inode_->remove_listener(this); }

void Sentinel::size_changed(uint64_t bytes) {
  // Rounded up: the rest of the last page can be touched, as with any mmap. The largest file just fits.
  uint64_t size = bytes > kMaxFileBytes - kBlockSize ? kMaxFileBytes : blocks_for(bytes) * kBlockSize;
  sys().ftruncate(fd_.get(), size);
}

SigbusPage::SigbusPage() : fd_(make_memfd("pmfs-sigbus")) {}
void SigbusPage::raise_sigbus() { sys().ftruncate(fd_.get(), 0); }
void SigbusPage::try_again() { sys().ftruncate(fd_.get(), kBlockSize); }

}  // namespace pmfs::fault
