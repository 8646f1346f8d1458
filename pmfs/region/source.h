// What a region can be made of: looked at before one is made, and told to who makes it. Nothing here changes anything.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pmfs/region/region.h"

namespace pmfs {

struct RegionSource {
  RegionKind kind = RegionKind::kShmem;
  std::string file_system;      // "tmpfs", "ext4", "xfs"; of a device: ""
  uint64_t align_bytes = kBlockSize;  // of offsets and lengths of its mappings
  uint64_t device_bytes = 0;    // of a device; 0: as large as its file system has room
  // Who says that the memory is persistent: "ACPI.NFIT", "e820" (memmap= on the kernel's command line: DRAM), "hmem"; or "".
  std::string provider;
  int numa_node = -1;           // -1: not known
  bool emulated() const { return provider == "e820"; }
  Unit align() const { return Unit(align_bytes / kBlockSize); }
};

// `path`: a directory for a region file, or a device (/dev/daxX.Y). Throws Error(ENOTSUP) with the reason if no region can be
// made there: a file system without DAX, a device that is no devdax or whose alignment is not ours.
RegionSource look_at_source(const std::filesystem::path& path);

// Of a region file: the share of it that the kernel can map by 2 MiB pages (0 to 1). fsdax only; -1: the file system does not say.
double huge_share(const std::filesystem::path& file);

// Of a region's file or device: the blocks that the kernel knows can't be read, in order. `unknown`: why that list may be
// too short; empty: it is what the kernel knows.
std::vector<Extent> known_bad_blocks(int fd, std::string* unknown);

}  // namespace pmfs
