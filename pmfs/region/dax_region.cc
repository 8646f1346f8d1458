// fsdax and devdax. The kernel installs the PTEs of a DAX mapping by itself, and nothing but its owner takes a VMA away: so
// zap() can't revoke, and whoever frees blocks has asked the clients before (acked mode, fs/acked.cc).
//
// Memory is all there from the beginning: mkfs has the file system allocate every block of the file, so a store never meets
// a full one. What a free block holds is not known, and it is zeroed when it is handed out: persistent memory wears, so
// nothing is written ahead of its use.

#include "pmfs/region/dax_region.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <sys/mman.h>

#include "pmfs/base/error.h"
#include "pmfs/base/sys.h"
#include "pmfs/region/files.h"
#include "pmfs/region/source.h"

namespace pmfs {

DaxRegion::DaxRegion(RegionKind kind, UniqueFd fd, const std::string& path, uint64_t blocks, const RegionOptions& o)
    : kind_(kind),
      fd_(std::move(fd)),
      path_(path),
      blocks_(blocks),
      room_(kind == RegionKind::kDevdax ? blocks : room_for(blocks)),
      pmem2_(fd_.get(), path_, o.unit.bytes(), Pmem2::Need::kWhatItSays) {
  // Of a file: beyond its end too, where nobody touches it; when it grows the pages are there.
  void* p = ::mmap(nullptr, room_ << kBlockShift, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd_.get(), 0);
  if (p == MAP_FAILED) fail(errno, "region {}: can't map it with MAP_SYNC: {}", path_, std::strerror(errno));
  base_ = static_cast<std::byte*>(p);
  if (o.canary) canaried_ = std::make_unique<std::atomic<bool>[]>(room_);
}

DaxRegion::~DaxRegion() { ::munmap(base_, room_ << kBlockShift); }

void DaxRegion::grow(uint64_t blocks, bool reserve) {
  const uint64_t old = blocks_.load();
  if (kind_ == RegionKind::kDevdax)
    fail(EFBIG, "region {}: a device does not grow, and the volume has all {} MiB of it", path_, old >> 8);
  if (blocks > room_)
    fail(EFBIG, "region {}: can't grow to {} MiB while it is in use, {} MiB is the most; stop the manager and grow it then",
         path_, blocks >> 8, room_ >> 8);
  extend_file(fd_.get(), path_, old, blocks, reserve, nullptr);
  blocks_.store(blocks, std::memory_order_release);
}

void DaxRegion::cut_back(uint64_t blocks) {
  blocks_.store(blocks, std::memory_order_release);
  if (int err = sys().ftruncate(fd_.get(), blocks << kBlockShift); err != 0)
    fail(err, "region {}: can't be cut back to {} MiB: {}", path_, blocks >> 8, std::strerror(err));
}

std::vector<Extent> DaxRegion::bad_blocks() const {
  std::string unknown;
  return known_bad_blocks(fd_.get(), &unknown);
}

void DaxRegion::check_canary(Pfn p) {
  const auto* words = reinterpret_cast<const uint64_t*>(address(p));
  if (std::all_of(words, words + kBlockSize / 8, [](uint64_t w) { return w == kCanary; })) return;
  canary_errors_.fetch_add(1, std::memory_order_relaxed);
  bad_canary_.store(p.v, std::memory_order_relaxed);
}

void DaxRegion::make_zero(Extent e) {
  if (canaried_)
    for (Pfn p = e.first; p < e.end(); ++p)
      if (canaried_[p.v].exchange(false, std::memory_order_relaxed)) check_canary(p);
  pmem2_.memset_nodrain(address(e.first), 0, e.count << kBlockShift);
  pmem2_.drain();
}

void DaxRegion::zap(Extent e) {
  if (!canaried_) return;
  auto* words = reinterpret_cast<uint64_t*>(address(e.first));
  std::fill(words, words + (e.count << kBlockShift) / 8, kCanary);
  for (Pfn p = e.first; p < e.end(); ++p) canaried_[p.v].store(true, std::memory_order_relaxed);
}

}  // namespace pmfs
