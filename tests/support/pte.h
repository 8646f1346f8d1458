// What PTEs a process has on a region file, from /proc/PID/maps and /proc/PID/pagemap: the kernel's own word.
#pragma once

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "pmfs/base/types.h"
#include "pmfs/base/unique_fd.h"

namespace pmfs::test {

struct PresentPte {
  uint64_t va;
  Pfn pfn;  // block of the region
};

inline std::vector<PresentPte> present_ptes(pid_t pid, const std::string& region_path) {
  struct stat st {};
  if (::stat(region_path.c_str(), &st) != 0) throw std::runtime_error("no region at " + region_path);
  std::string proc = "/proc/" + std::to_string(pid);
  std::ifstream maps(proc + "/maps");
  UniqueFd pagemap(::open((proc + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<PresentPte> out;
  std::string line;
  while (std::getline(maps, line)) {
    uint64_t first, end, offset, ino;
    unsigned major_, minor_;
    char prot[8];
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %x:%x %" SCNu64, &first, &end, prot, &offset,
                    &major_, &minor_, &ino) != 7)
      continue;
    if (ino != st.st_ino || ::makedev(major_, minor_) != st.st_dev) continue;
    std::vector<uint64_t> entries((end - first) >> kBlockShift);
    ssize_t n = ::pread(pagemap.get(), entries.data(), entries.size() * 8, static_cast<off_t>((first >> kBlockShift) * 8));
    for (size_t i = 0; i < static_cast<size_t>(n > 0 ? n : 0) / 8; ++i)
      if (entries[i] >> 63) out.push_back({first + i * kBlockSize, Pfn((offset >> kBlockShift) + i)});
  }
  return out;
}

}  // namespace pmfs::test
