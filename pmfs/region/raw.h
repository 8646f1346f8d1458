// The blocks of a region that nobody serves, for fsck: nothing is believed of it but what it is made of.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "pmfs/base/unique_fd.h"
#include "pmfs/region/region.h"

namespace pmfs {

class RawRegion {
 public:
  // Throws Error if it can't be opened. Takes no lock: the volume's is held by the caller.
  RawRegion(const std::filesystem::path& path, bool writable);

  RegionKind kind() const { return kind_; }
  uint64_t blocks() const { return blocks_; }                      // that are there
  const std::optional<VolumeUuid>& uuid() const { return uuid_; }  // whose a device is
  // A file is made longer, with zeros. Throws Error; EFBIG: a device.
  void extend(uint64_t blocks);
  // What is behind the region's end reads as zero. Throws Error(EIO).
  void copy(Extent from, Pfn to);
  void sync();  // Throws Error(EIO)

 private:
  const std::string path_;
  UniqueFd fd_;
  RegionKind kind_ = RegionKind::kShmem;
  uint64_t blocks_ = 0, align_bytes_ = kBlockSize;
  std::optional<VolumeUuid> uuid_;
};

}  // namespace pmfs
