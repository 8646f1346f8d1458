// Whether memory is DAX is asked of the kernel with MAP_SYNC, which it grants on DAX alone, and not of mount options.
#include "pmfs/region/source.h"

#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

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
  if (s.align_bytes != kBlockSize)
    fail(ENOTSUP, "{}: its mappings are aligned to {} bytes, a region's blocks have {}; make the device so: "
         "ndctl create-namespace --mode=devdax --align=4k, or daxctl reconfigure-device --align=4k",
         path.string(), s.align_bytes, kBlockSize);
  return s;
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

RegionSource look_at_source(const fs::path& path) {
  struct stat st;
  struct statfs sfs;
  if (::stat(path.c_str(), &st) != 0 || ::statfs(path.c_str(), &sfs) != 0)
    fail(errno, "{}: can't be looked at: {}", path.string(), std::strerror(errno));
  if (!S_ISDIR(st.st_mode)) return device(path, st);
  RegionSource s;
  if (sfs.f_type == TMPFS_MAGIC) {
    s.file_system = "tmpfs";
    return s;
  }
  if (static_cast<unsigned long>(sfs.f_type) == HUGETLBFS_MAGIC)
    fail(ENOTSUP, "{}: is on hugetlbfs, whose pages are larger than a region's blocks of {} bytes; make the volume on tmpfs",
         path.string(), kBlockSize);
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
  constexpr unsigned kAtOnce = 64;
  std::vector<std::byte> buffer(sizeof(fiemap) + kAtOnce * sizeof(fiemap_extent));
  uint64_t huge = 0, run_start = 0, run_end = 0, run_physical = 0;
  const auto count = [&] {
    if (run_physical % kHuge != run_start % kHuge) return;
    const uint64_t from = (run_start + kHuge - 1) / kHuge, to = run_end / kHuge;
    if (to > from) huge += to - from;
  };
  for (uint64_t at = 0; at < bytes;) {
    auto* m = reinterpret_cast<fiemap*>(buffer.data());
    *m = {};
    m->fm_start = at;
    m->fm_length = bytes - at;
    m->fm_extent_count = kAtOnce;
    if (::ioctl(fd.get(), FS_IOC_FIEMAP, m) != 0) return -1;
    if (m->fm_mapped_extents == 0) break;
    const auto* e = reinterpret_cast<const fiemap_extent*>(buffer.data() + sizeof(fiemap));
    for (unsigned k = 0; k < m->fm_mapped_extents; ++k) {
      if (e[k].fe_logical == run_end && e[k].fe_physical == run_physical + (run_end - run_start) && run_end > run_start) {
        run_end += e[k].fe_length;
      } else {
        count();
        run_start = e[k].fe_logical;
        run_end = run_start + e[k].fe_length;
        run_physical = e[k].fe_physical;
      }
    }
    const fiemap_extent& last = e[m->fm_mapped_extents - 1];
    at = last.fe_logical + last.fe_length;
    if (last.fe_flags & FIEMAP_EXTENT_LAST) break;
  }
  count();
  return static_cast<double>(huge) / static_cast<double>(bytes / kHuge);
}

}  // namespace pmfs
