// Whether memory is DAX is asked of the kernel with MAP_SYNC, which it grants on DAX alone, and not of mount options.
#include "pmfs/region/source.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/unique_fd.h"
#include "pmfs/region/pmem2.h"

namespace pmfs {

namespace fs = std::filesystem;

std::string_view region_kind_name(RegionKind k) {
  switch (k) {
    case RegionKind::kShmem: return "shmem";
    case RegionKind::kFsdax: return "fsdax";
    case RegionKind::kDevdax: return "devdax";
    case RegionKind::kHugetlb: return "hugetlb";
  }
  return "unknown";
}

namespace {

constexpr long kXfsMagic = 0x58465342;

std::string read_line(const fs::path& p) {
  std::ifstream in(p);
  std::string s;
  std::getline(in, s);
  return s;
}

uint64_t number_in(const fs::path& p, uint64_t otherwise) {
  try {
    return std::stoull(read_line(p), nullptr, 0);
  } catch (const std::exception&) {
    return otherwise;
  }
}

int node_in(const fs::path& p) {
  try {
    return std::stoi(read_line(p));
  } catch (const std::exception&) {
    return -1;
  }
}

// The nvdimm bus above a device, or the driver that made it a device without one.
std::string provider_of(const fs::path& sysfs) {
  std::error_code ec;
  for (fs::path p = fs::canonical(sysfs, ec); !ec && p.has_relative_path(); p = p.parent_path()) {
    const std::string name = p.filename();
    if (name.starts_with("ndbus")) return read_line(p / "provider");
    if (name.starts_with("hmem")) return "hmem";
    if (name.starts_with("cxl")) return "cxl";
  }
  return "";
}

fs::path sysfs_of(const char* what, dev_t d) {
  return fmt::format("/sys/dev/{}/{}:{}", what, major(d), minor(d));
}

RegionSource device(const fs::path& path, const struct stat& st) {
  const fs::path sysfs = sysfs_of("char", st.st_rdev);
  std::error_code ec;
  if (!S_ISCHR(st.st_mode) || fs::canonical(sysfs / "subsystem", ec).filename() != "dax")
    fail(ENOTSUP, "{}: is not a devdax device (/dev/daxX.Y); for a block device make a file system and mount it with -o dax",
         path.string());
  RegionSource s;
  s.kind = RegionKind::kDevdax;
  s.device_bytes = number_in(sysfs / "size", 0);
  s.align_bytes = number_in(sysfs / "align", 0);
  if (s.align_bytes == 0) s.align_bytes = number_in(sysfs / "device" / "align", 0);
  s.numa_node = node_in(sysfs / "numa_node");
  s.provider = provider_of(sysfs);
  if (s.device_bytes == 0) fail(ENOTSUP, "{}: its size can't be read from {}", path.string(), sysfs.string());
  if (s.align_bytes % kBlockSize != 0 || !Unit::possible(s.align_bytes / kBlockSize))
    fail(ENOTSUP, "{}: its mappings are aligned to {} bytes; a volume has units of {} or {}: make the device so: "
         "ndctl create-namespace --mode=devdax --align=2m (or 4k), or daxctl reconfigure-device --align=2m",
         path.string(), s.align_bytes, kBlockSize, Unit(kHugeBlocks).bytes());
  return s;
}

struct DiskExtent {
  uint64_t logical, physical, length;  // bytes
};

// Where a file lies on its device; neighbours are one. Nothing if the file system does not say.
std::optional<std::vector<DiskExtent>> file_extents(int fd) {
  constexpr unsigned kAtOnce = 64;
  alignas(fiemap) std::array<std::byte, sizeof(fiemap) + kAtOnce * sizeof(fiemap_extent)> buffer;
  std::vector<DiskExtent> all;
  for (uint64_t at = 0;;) {
    auto* m = reinterpret_cast<fiemap*>(buffer.data());
    *m = {};
    m->fm_start = at;
    m->fm_length = FIEMAP_MAX_OFFSET - at;
    m->fm_extent_count = kAtOnce;
    if (::ioctl(fd, FS_IOC_FIEMAP, m) != 0) return std::nullopt;
    if (m->fm_mapped_extents == 0) return all;
    const auto* e = reinterpret_cast<const fiemap_extent*>(buffer.data() + sizeof(fiemap));
    for (unsigned k = 0; k < m->fm_mapped_extents; ++k) {
      if (!all.empty() && e[k].fe_logical == all.back().logical + all.back().length &&
          e[k].fe_physical == all.back().physical + all.back().length)
        all.back().length += e[k].fe_length;
      else
        all.push_back({e[k].fe_logical, e[k].fe_physical, e[k].fe_length});
    }
    const fiemap_extent& last = e[m->fm_mapped_extents - 1];
    if (last.fe_flags & FIEMAP_EXTENT_LAST) return all;
    at = last.fe_logical + last.fe_length;
  }
}

struct ByteRange {
  uint64_t first, end;
};

// What the kernel's block device knows, and a fault there fails for; of a partition in bytes from its own start. libpmem2
// looks at what the memory's region knows, which is older: from its last scrub.
std::vector<ByteRange> bad_sectors(dev_t device) {
  constexpr uint64_t kSector = 512;
  const fs::path sysfs = sysfs_of("block", device);
  std::error_code ec;
  const bool partition = fs::exists(sysfs / "partition", ec);
  const uint64_t start = partition ? number_in(sysfs / "start", 0) * kSector : 0;
  std::ifstream in(partition ? sysfs / ".." / "badblocks" : sysfs / "badblocks");
  std::vector<ByteRange> bad;
  for (uint64_t sector, count; in >> sector >> count;) {
    const uint64_t first = sector * kSector, end = first + count * kSector;
    if (end > start) bad.push_back({std::max(first, start) - start, end - start});
  }
  return bad;
}

std::vector<Extent> merged(std::vector<Extent> all) {
  std::sort(all.begin(), all.end(), [](Extent a, Extent b) { return a.first < b.first; });
  std::vector<Extent> out;
  for (const Extent& e : all) {
    if (!out.empty() && out.back().end() >= e.first) out.back().count = std::max(out.back().end(), e.end()) - out.back().first;
    else out.push_back(e);
  }
  return out;
}

// Of a page of a file that is never seen.
bool grants_map_sync(const fs::path& dir, int* why) {
  UniqueFd fd(::open(dir.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd || ::ftruncate(fd.get(), kBlockSize) != 0) {
    *why = errno;
    return false;
  }
  void* p = ::mmap(nullptr, kBlockSize, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd.get(), 0);
  *why = p == MAP_FAILED ? errno : 0;
  if (p == MAP_FAILED) return false;
  ::munmap(p, kBlockSize);
  return true;
}

}  // namespace

namespace {

// Of a file that is there, or is to be made there.
RegionSource hugetlb(const fs::path& path, uint64_t page_bytes) {
  if (page_bytes != Unit(kHugeBlocks).bytes())
    fail(ENOTSUP, "{}: is on hugetlbfs with pages of {} bytes; a region needs pages of 2 MiB: mount -t hugetlbfs -o pagesize=2M none DIR",
         path.string(), page_bytes);
  RegionSource s;
  s.kind = RegionKind::kHugetlb;
  s.file_system = "hugetlbfs";
  s.align_bytes = page_bytes;
  return s;
}

bool on_hugetlbfs(const struct statfs& fs) { return static_cast<unsigned long>(fs.f_type) == HUGETLBFS_MAGIC; }

}  // namespace

RegionSource look_at_source(const fs::path& path) {
  struct stat st;
  struct statfs sfs;
  const bool there = ::stat(path.c_str(), &st) == 0;
  if ((!there || S_ISREG(st.st_mode)) && ::statfs(fs::absolute(path).parent_path().c_str(), &sfs) == 0 && on_hugetlbfs(sfs))
    return hugetlb(path, static_cast<uint64_t>(sfs.f_bsize));
  if (::stat(path.c_str(), &st) != 0 || ::statfs(path.c_str(), &sfs) != 0)
    fail(errno, "{}: can't be looked at: {}", path.string(), std::strerror(errno));
  if (!S_ISDIR(st.st_mode)) return device(path, st);
  RegionSource s;
  if (sfs.f_type == TMPFS_MAGIC) {
    s.file_system = "tmpfs";
    return s;
  }
  if (on_hugetlbfs(sfs))
    fail(ENOTSUP, "{}: is on hugetlbfs, where a volume's metadata can't be; only its data can: pmfs mkfs --data {} --meta DIR, DIR being elsewhere",
         path.string(), (path / "FILE").string());
  s.file_system = sfs.f_type == EXT4_SUPER_MAGIC ? "ext4" : sfs.f_type == kXfsMagic ? "xfs" : fmt::format("{:#x}", sfs.f_type);
  int why = 0;
  if (!grants_map_sync(path, &why)) {
    if (why == EOPNOTSUPP)
      fail(ENOTSUP, "{}: is on {} without DAX (the kernel grants no MAP_SYNC): a region's stores would go to a page cache; "
           "mount a pmem device there with -o dax=always, or make the volume on tmpfs", path.string(), s.file_system);
    fail(why, "{}: whether it is on DAX can't be found out: {}", path.string(), std::strerror(why));
  }
  s.kind = RegionKind::kFsdax;
  const fs::path block = sysfs_of("block", st.st_dev);
  s.provider = provider_of(block);
  s.numa_node = node_in(block / "device" / "numa_node");
  return s;
}

// Source: the condition of dax_iomap_pmd_fault(): offset and pfn congruent, the whole 2 MiB in one extent. The memory of a
// pmem device is itself aligned to 2 MiB.
double huge_share(const fs::path& file) {
  UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat st;
  if (!fd || ::fstat(fd.get(), &st) != 0) fail(errno, "{}: can't be opened: {}", file.string(), std::strerror(errno));
  constexpr uint64_t kHuge = kHugeBlocks * kBlockSize;
  const uint64_t bytes = static_cast<uint64_t>(st.st_size);
  if (bytes < kHuge) return 0;
  const auto extents = file_extents(fd.get());
  if (!extents) return -1;
  uint64_t huge = 0;
  for (const DiskExtent& e : *extents) {
    if (e.physical % kHuge != e.logical % kHuge) continue;
    const uint64_t from = (e.logical + kHuge - 1) / kHuge, to = (e.logical + e.length) / kHuge;
    if (to > from) huge += to - from;
  }
  return static_cast<double>(huge) / static_cast<double>(bytes / kHuge);
}

std::vector<Extent> known_bad_blocks(int fd, std::string* unknown) {
  const Pmem2Facts facts = pmem2_facts(fd);
  *unknown = facts.bad_unknown;
  std::vector<Extent> bad = facts.bad;
  struct stat st;
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return bad;
  const auto on_disk = bad_sectors(st.st_dev);
  const auto extents = on_disk.empty() ? std::nullopt : file_extents(fd);
  if (!on_disk.empty() && !extents) *unknown = "the file system does not say where the file lies";
  if (!extents) return bad;
  for (const DiskExtent& e : *extents)
    for (const ByteRange& b : on_disk) {
      const uint64_t from = std::max(e.physical, b.first), to = std::min(e.physical + e.length, b.end);
      if (from >= to) continue;
      const Pfn first((e.logical + from - e.physical) >> kBlockShift);
      bad.push_back({first, blocks_for(e.logical + to - e.physical) - first.v});
    }
  return merged(std::move(bad));
}

}  // namespace pmfs
