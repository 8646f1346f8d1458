// The last block of a device that a region is on: whose it is. Devices are named anew at each boot, and a volume that took
// another's for its own would write over it. A region file needs none: it lies beside its metadata.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "pmfs/base/unit.h"

namespace pmfs {

using VolumeUuid = std::array<uint8_t, 16>;

struct RegionLabel {
  static constexpr uint64_t kMagic = 0x4e4f49474552504d;  // "MPREGION"
  static constexpr uint32_t kVersion = 1;
  uint64_t magic;
  uint32_t version;
  uint32_t checksum;  // CRC-32C of all, with 0 here
  uint64_t blocks;    // of the region; the label is behind them
  VolumeUuid uuid;
};
static_assert(sizeof(RegionLabel) == 40);

// `fd`: of the device, whose alignment is `align`; `at`: the label's block. Nothing if there is no valid label.
// Throws Error if the device can't be mapped.
std::optional<RegionLabel> read_label(int fd, const std::string& path, uint64_t at, Unit align);
// A crash before its end leaves none, or the old one: the new volume then can't be mounted, and has no files.
void write_label(int fd, const std::string& path, uint64_t at, Unit align, const VolumeUuid& uuid);

}  // namespace pmfs
