#include "pmfs/fault/sentinel.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

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

void Sentinel::drop_zeros(PageRange r) {
  if (pages_.load() == 0) return;
  const uint64_t end = std::min(r.end.bytes(), kMaxFileBytes);
  if (r.first.bytes() >= end) return;
  while (sys().punch_hole(fd_.get(), r.first.bytes(), end - r.first.bytes()) == EINTR) {
  }
}

void Sentinel::shown(PageRange r) {
  constexpr uint64_t kMost = 16384;  // 64 MiB
  if (pages_.fetch_add(r.count()) + r.count() <= kMost) return;
  drop_zeros({Pgoff(0), kEndOfFile});
  pages_.store(r.count());
}

SigbusPage::SigbusPage() : fd_(make_memfd("pmfs-sigbus")) {}
void SigbusPage::raise_sigbus() { sys().ftruncate(fd_.get(), 0); }
void SigbusPage::try_again() { sys().ftruncate(fd_.get(), kHugeBlocks * kBlockSize); }

}  // namespace pmfs::fault
