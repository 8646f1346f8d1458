// Making and opening a region of whatever kind.
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/survive.h"
#include "pmfs/region/dax_region.h"
#include "pmfs/region/files.h"
#include "pmfs/region/label.h"
#include "pmfs/region/source.h"

namespace pmfs {

namespace fs = std::filesystem;

namespace {

UniqueFd open_device(const fs::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) fail(errno, "region {}: can't open: {}", path.string(), std::strerror(errno));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
    fail(EBUSY, "region {}: in use by another manager; stop that one first", path.string());
  return fd;
}

void create_fsdax(const fs::path& path, uint64_t blocks, bool write, const RegionProgress& progress) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) fail(errno, "region {}: can't create: {}", path.string(), std::strerror(errno));
  try {
    extend_file(fd.get(), path, 0, blocks, write, progress);
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
}

// The label of the device stays until label_region(): until then the device is its old volume's.
void create_devdax(const fs::path& link, const fs::path& device, uint64_t blocks, bool force) {
  const RegionSource source = look_at_source(device);
  const UniqueFd fd = open_device(device);
  const uint64_t whole = source.device_bytes / kBlockSize;
  if (blocks >= whole)
    fail(ENOSPC, "{}: a region of {} MiB, and the block behind it that says whose it is, are more than its {} MiB; choose a "
         "smaller --size", device.string(), blocks >> 8, whole >> 8);
  if (const auto label = read_label(fd.get(), device, whole - 1, source.align()); label && !force)
    fail(EEXIST, "{}: belongs to a volume already; --force takes it, and destroys that volume's files", device.string());
  fs::create_symlink(fs::absolute(device), link);
}

// Huge pages are taken from the machine's pool now, or (sparse) when blocks are used: never SIGBUS, but ENOSPC.
void create_hugetlb(const fs::path& link, const fs::path& file, uint64_t blocks, bool reserve, bool force) {
  std::error_code ec;
  if (force) fs::remove(file, ec);
  UniqueFd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) fail(errno, "region {}: can't create: {}{}", file.string(), std::strerror(errno), errno == EEXIST ? "; --force replaces it" : "");
  const auto bytes = static_cast<off_t>(blocks << kBlockShift);
  if (::ftruncate(fd.get(), bytes) != 0 || (reserve && ::fallocate(fd.get(), 0, 0, bytes) != 0)) {
    const int err = errno;
    ::unlink(file.c_str());
    fail(err, "region {}: {} huge pages of 2 MiB can't be had: {}; raise /proc/sys/vm/nr_hugepages, or choose a smaller --size", file.string(),
         blocks / kHugeBlocks, std::strerror(err));
  }
  fs::create_symlink(fs::absolute(file), link);
}

[[noreturn]] void unreadable(Pfn from, uint64_t bytes) {
  fail(EIO, "region: blocks {}+{} can't be read: the memory has an uncorrectable error there", from.v, blocks_for(bytes));
}

uint64_t label_block(const RegionSource& s) { return s.device_bytes / kBlockSize - 1; }

}  // namespace

void Region::read(void* dst, Pfn from, uint64_t in_block, size_t bytes) {
  const std::byte* src = address(from) + in_block;
  if (!survive_sigbus([&] { std::memcpy(dst, src, bytes); })) unreadable(from, in_block + bytes);
}

void Region::copy(Pfn to, Extent from) {
  const size_t bytes = from.count << kBlockShift;
  if (!survive_sigbus([&] { memcpy_nodrain(address(to), address(from.first), bytes); })) unreadable(from.first, bytes);
}

void create_region(const fs::path& path, const RegionPlan& plan) {
  switch (plan.kind) {
    case RegionKind::kShmem: return create_shmem_region(path, plan.blocks, plan.reserve);
    case RegionKind::kFsdax: return create_fsdax(path, plan.blocks, plan.reserve, plan.progress);
    case RegionKind::kDevdax: return create_devdax(path, plan.device, plan.blocks, plan.force);
    case RegionKind::kHugetlb: return create_hugetlb(path, plan.device, plan.blocks, plan.reserve, plan.force);
  }
  fail(ENOTSUP, "region {}: regions of kind {} can't be made", path.string(), region_kind_name(plan.kind));
}

void label_region(const fs::path& path, RegionKind kind, const VolumeUuid& uuid) {
  if (kind != RegionKind::kDevdax) return;
  const UniqueFd fd = open_device(path);
  const RegionSource source = look_at_source(path);
  write_label(fd.get(), path, label_block(source), source.align(), uuid);
}

std::unique_ptr<Region> open_region(const fs::path& path, RegionKind kind, uint64_t blocks, const RegionOptions& o) {
  switch (kind) {
    case RegionKind::kShmem: return open_shmem_region(path, blocks, o);
    case RegionKind::kFsdax: {
      UniqueFd fd = open_region_file(path, blocks, o);
      return std::make_unique<DaxRegion>(kind, std::move(fd), path, blocks, o);
    }
    case RegionKind::kDevdax: {
      UniqueFd fd = open_device(path);
      const RegionSource source = look_at_source(path);
      const uint64_t at = label_block(source);
      if (o.unit.bytes() % source.align_bytes != 0)
        fail(EUCLEAN, "region {}: the device's mappings are aligned to {} bytes now, the volume has units of {}; give it back the alignment "
             "that it had: ndctl create-namespace -f --align, or daxctl reconfigure-device --align",
             path.string(), source.align_bytes, o.unit.bytes());
      const auto label = read_label(fd.get(), path, at, source.align());
      if (!label || label->uuid != o.uuid)
        fail(EUCLEAN, "region {}: the device {}; devices are named anew at each boot: point the link {} to the right one",
             path.string(), label ? "belongs to another volume" : "is no volume's", path.string());
      if (label->blocks != at || blocks > at)
        fail(EUCLEAN, "region {}: the device has {} blocks, the superblock says {}", path.string(), at, blocks);
      return std::make_unique<DaxRegion>(kind, std::move(fd), path, blocks, o);
    }
    case RegionKind::kHugetlb: return open_hugetlb_region(path, blocks, o);
  }
  fail(ENOTSUP, "region {}: is of a kind ({}) that this pmfs does not know", path.string(), static_cast<uint32_t>(kind));
}

}  // namespace pmfs
