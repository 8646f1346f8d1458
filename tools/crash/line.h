// Cache lines: the unit in which stores reach the media. A power cut keeps or loses each line as a whole, at any of
// the contents that it had since it was last durable (stores to one line become durable in program order).
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace pmfs::crash {

inline constexpr size_t kLineBytes = 64;
inline constexpr size_t kPageBytes = 4096;

enum class Area : uint8_t { kMeta = 0, kData = 1 };  // the volume's two files
inline constexpr size_t kAreas = 2;

struct LineId {
  Area area = Area::kMeta;
  uint64_t number = 0;  // offset in the file / 64
  auto operator<=>(const LineId&) const = default;
};

using LineBytes = std::array<std::byte, kLineBytes>;

struct LineContent {
  LineId id;
  LineBytes bytes;
};

// A line that is not known to be durable; versions in program order, the last is what the program sees.
struct PendingLine {
  LineId id;
  std::vector<LineBytes> versions;
  bool old = false;  // unchanged since before the operation under way: what libpmemobj never flushes, as it needs it not
};

struct ZeroedRange {  // by the kernel (a punched hole): durable at once, lines of `area` [first, first + count)
  LineId first;
  uint64_t count = 0;
};

}  // namespace pmfs::crash
