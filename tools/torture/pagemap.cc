// The kernel's word on which pages of a process are present.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <cinttypes>
#include <cstdio>

#include <fmt/format.h>

#include "tools/torture/pte_oracle.h"

namespace torture {

namespace {

// Linux 6.7's PAGEMAP_SCAN; older headers lack it.
struct ScanRegion {
  uint64_t start, end, categories;
};
struct ScanArg {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
static_assert(sizeof(ScanArg) == 96);
constexpr uint64_t kIsPresent = 1 << 3;
constexpr unsigned long kScan = _IOWR('f', 16, ScanArg);
constexpr size_t kRegions = 1024;

struct Vma {
  uint64_t first, end, offset;
};

std::vector<Vma> vmas_of(pid_t pid, uint64_t dev, uint64_t ino) {
  std::vector<Vma> out;
  FILE* maps = fopen(fmt::format("/proc/{}/maps", pid).c_str(), "re");
  char line[1024];
  while (maps != nullptr && fgets(line, sizeof line, maps) != nullptr) {
    Vma v{};
    unsigned major_number = 0, minor_number = 0;
    uint64_t inode = 0;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %x:%x %" SCNu64, &v.first, &v.end, &v.offset, &major_number,
               &minor_number, &inode) == 6 &&
        inode == ino && makedev(major_number, minor_number) == dev)
      out.push_back(v);
  }
  if (maps != nullptr) fclose(maps);
  return out;
}

bool scan(int fd, const Vma& v, std::vector<PresentPage>* out) {
  std::vector<ScanRegion> regions(kRegions);
  for (uint64_t at = v.first; at < v.end;) {
    ScanArg arg{};
    arg.size = sizeof arg;
    arg.start = at;
    arg.end = v.end;
    arg.vec = reinterpret_cast<uint64_t>(regions.data());
    arg.vec_len = kRegions;
    arg.category_mask = kIsPresent;
    arg.return_mask = kIsPresent;
    int n = ioctl(fd, kScan, &arg);
    if (n < 0) return false;
    for (int i = 0; i < n; ++i)
      for (uint64_t va = regions[static_cast<size_t>(i)].start; va < regions[static_cast<size_t>(i)].end; va += kPage)
        out->push_back({va, (v.offset + va - v.first) / kPage});
    if (arg.walk_end <= at) break;
    at = arg.walk_end;
  }
  return true;
}

void read_entries(int fd, const Vma& v, std::vector<PresentPage>* out) {
  std::vector<uint64_t> entries(512);
  for (uint64_t va = v.first; va < v.end; va += entries.size() * kPage) {
    ssize_t n = pread(fd, entries.data(), entries.size() * 8, static_cast<off_t>(va / kPage * 8));
    for (size_t i = 0; n > 0 && i < static_cast<size_t>(n) / 8; ++i)
      if (va + i * kPage < v.end && entries[i] >> 63 != 0) out->push_back({va + i * kPage, (v.offset + va - v.first) / kPage + i});
  }
}

}  // namespace

std::vector<PresentPage> present_pages(pid_t pid, uint64_t dev, uint64_t ino) {
  static std::atomic<bool> can_scan{true};
  std::vector<PresentPage> out;
  int fd = open(fmt::format("/proc/{}/pagemap", pid).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return out;
  for (const Vma& v : vmas_of(pid, dev, ino)) {
    if (can_scan.load() && !scan(fd, v, &out)) {
      if (errno == ENOTTY || errno == EINVAL) can_scan = false;
    }
    if (!can_scan.load()) read_entries(fd, v, &out);
  }
  close(fd);
  return out;
}

}  // namespace torture
