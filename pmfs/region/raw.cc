#include "pmfs/region/raw.h"

#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/survive.h"
#include "pmfs/region/pmem2.h"
#include "pmfs/region/source.h"

namespace pmfs {

RawRegion::RawRegion(const std::filesystem::path& path, bool writable)
    : path_(path.string()), fd_(::open(path_.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC)) {
  struct stat st;
  struct statfs fs;
  if (!fd_ || ::fstat(fd_.get(), &st) != 0 || ::fstatfs(fd_.get(), &fs) != 0)
    fail(errno, "{}: the region can't be opened: {}", path_, std::strerror(errno));
  if (S_ISREG(st.st_mode)) {
    const bool huge = static_cast<unsigned long>(fs.f_type) == HUGETLBFS_MAGIC;
    kind_ = fs.f_type == TMPFS_MAGIC ? RegionKind::kShmem : huge ? RegionKind::kHugetlb : RegionKind::kFsdax;
    if (huge) align_bytes_ = static_cast<uint64_t>(fs.f_bsize);
    blocks_ = static_cast<uint64_t>(st.st_size) / kBlockSize;
    return;
  }
  const RegionSource s = look_at_source(path);
  kind_ = s.kind;
  align_bytes_ = s.align_bytes;
  const uint64_t label_at = s.device_bytes / kBlockSize - 1;
  blocks_ = s.align().down(label_at);
  // A label is read through a mapping that could be written to, too.
  const UniqueFd device(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  if (!device) fail(errno, "{}: the device can't be opened: {}", path_, std::strerror(errno));
  if (const auto label = read_label(device.get(), path_, label_at, s.align())) uuid_ = label->uuid;
}

void RawRegion::extend(uint64_t blocks) {
  if (kind_ == RegionKind::kDevdax)
    fail(EFBIG, "{}: the device has {} blocks, the volume should have {}: it is not the volume's, or was made anew", path_, blocks_, blocks);
  if (::ftruncate(fd_.get(), static_cast<off_t>(blocks << kBlockShift)) != 0)
    fail(errno, "{}: the region can't be made {} bytes again: {}", path_, blocks << kBlockShift, std::strerror(errno));
  // What the file system has not allocated a store would have to wait for, or die of.
  if (kind_ == RegionKind::kFsdax && ::fallocate(fd_.get(), 0, 0, static_cast<off_t>(blocks << kBlockShift)) != 0)
    fail(errno, "{}: the region's {} bytes can't be had again: {}", path_, blocks << kBlockShift, std::strerror(errno));
  blocks_ = blocks;
}

void RawRegion::copy(Extent from, Pfn to) {
  if (kind_ == RegionKind::kDevdax) {
    void* p = ::mmap(nullptr, blocks_ << kBlockShift, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd_.get(), 0);
    if (p == MAP_FAILED) fail(EIO, "{}: can't be mapped: {}", path_, std::strerror(errno));
    auto* base = static_cast<std::byte*>(p);
    const Pmem2 pmem2(fd_.get(), path_, align_bytes_, Pmem2::Need::kWhatItSays);
    pmem2.memcpy_nodrain(base + to.bytes(), base + from.first.bytes(), from.count << kBlockShift);
    pmem2.drain();
    ::munmap(p, blocks_ << kBlockShift);
    return;
  }
  if (kind_ == RegionKind::kHugetlb) {  // no write(2)
    void* p = ::mmap(nullptr, blocks_ << kBlockShift, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    if (p == MAP_FAILED) fail(EIO, "{}: can't be mapped: {}", path_, std::strerror(errno));
    auto* base = static_cast<std::byte*>(p);
    const bool copied = survive_sigbus([&] { std::memcpy(base + to.bytes(), base + from.first.bytes(), from.count << kBlockShift); });
    ::munmap(p, blocks_ << kBlockShift);
    if (!copied) fail(ENOSPC, "{}: no huge page is free; raise /proc/sys/vm/nr_hugepages", path_);
    return;
  }
  std::array<std::byte, kBlockSize> block;
  for (Pfn p = from.first; p < from.end(); ++p, ++to) {
    const ssize_t got = ::pread(fd_.get(), block.data(), kBlockSize, static_cast<off_t>(p.bytes()));
    if (got < 0) fail(EIO, "block {}: can't be read: {}", p.v, std::strerror(errno));
    std::memset(block.data() + got, 0, kBlockSize - static_cast<size_t>(got));
    if (::pwrite(fd_.get(), block.data(), kBlockSize, static_cast<off_t>(to.bytes())) != static_cast<ssize_t>(kBlockSize))
      fail(EIO, "block {}: can't be written: {}", to.v, std::strerror(errno));
  }
}

void RawRegion::sync() {
  if (::fsync(fd_.get()) != 0 && kind_ != RegionKind::kDevdax) fail(EIO, "{}: can't be synced: {}", path_, std::strerror(errno));
}

}  // namespace pmfs
