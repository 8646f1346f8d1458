// Distinct types for distinct indexes: a page of a file (Pgoff) can't be passed where a block of the
// region (Pfn) is meant. All counts are in 4 KiB units unless a name says bytes.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace pmfs {

inline constexpr unsigned kBlockShift = 12;
inline constexpr uint64_t kBlockSize = uint64_t{1} << kBlockShift;  // bytes; the base page and base block
inline constexpr unsigned kHugeOrder = 9;                           // 2 MiB = 2^9 blocks
inline constexpr uint64_t kHugeBlocks = uint64_t{1} << kHugeOrder;
inline constexpr uint64_t kMaxFileBytes = (uint64_t{1} << 63) - 1;  // 8 EiB - 1, as off_t
inline constexpr uint64_t kMaxPgoff = kMaxFileBytes >> kBlockShift;

template <class Tag>
struct Index {
  uint64_t v = 0;
  constexpr Index() = default;
  constexpr explicit Index(uint64_t value) : v(value) {}
  constexpr auto operator<=>(const Index&) const = default;
  constexpr Index operator+(uint64_t n) const { return Index(v + n); }
  constexpr Index operator-(uint64_t n) const { return Index(v - n); }
  constexpr uint64_t operator-(Index o) const { return v - o.v; }
  constexpr Index& operator+=(uint64_t n) { v += n; return *this; }
  constexpr Index& operator++() { ++v; return *this; }
  constexpr bool aligned(uint64_t n) const { return v % n == 0; }
  constexpr uint64_t bytes() const { return v << kBlockShift; }
};

using Pgoff = Index<struct PgoffTag>;  // page offset in a file
using Pfn = Index<struct PfnTag>;      // block number in the region

enum class Ino : uint64_t {};
inline constexpr Ino kRootIno{1};
constexpr uint64_t to_u64(Ino ino) { return static_cast<uint64_t>(ino); }

constexpr Pgoff pgoff_of(uint64_t byte) { return Pgoff(byte >> kBlockShift); }
constexpr uint64_t blocks_for(uint64_t bytes) { return (bytes >> kBlockShift) + ((bytes & (kBlockSize - 1)) != 0); }

// Half-open range of file pages [first, end).
struct PageRange {
  Pgoff first, end;
  constexpr uint64_t count() const { return end - first; }
  constexpr bool empty() const { return end <= first; }
  constexpr bool contains(Pgoff p) const { return first <= p && p < end; }
  constexpr bool overlaps(const PageRange& o) const { return first < o.end && o.first < end; }
  constexpr bool operator==(const PageRange&) const = default;
};
inline constexpr Pgoff kEndOfFile{kMaxPgoff + 1};  // end of a range that reaches to the largest offset

// A run of region blocks [first, first + count).
struct Extent {
  Pfn first;
  uint64_t count = 0;
  constexpr Pfn end() const { return first + count; }
  constexpr bool contains(Pfn p) const { return first <= p && p < end(); }
  constexpr bool operator==(const Extent&) const = default;
};

// A run of file pages backed by a run of region blocks.
struct FileExtent {
  Pgoff pgoff;
  Pfn pfn;
  uint64_t count = 0;
  bool unwritten = false;  // owned by the file, reads as zero, its old bytes must never be seen
  bool shared = false;     // other files may have the blocks too: not to be written to, nor mapped
  constexpr Pgoff end() const { return pgoff + count; }
  constexpr PageRange range() const { return {pgoff, end()}; }
  constexpr Pfn pfn_at(Pgoff p) const { return pfn + (p - pgoff); }
  constexpr Extent blocks() const { return {pfn, count}; }
  constexpr bool operator==(const FileExtent&) const = default;
};

enum class Wait : uint8_t { kBlock, kNoWait };  // kNoWait: EAGAIN instead of sleeping, nothing left behind

}  // namespace pmfs

template <class Tag>
struct std::hash<pmfs::Index<Tag>> {
  size_t operator()(pmfs::Index<Tag> i) const noexcept { return std::hash<uint64_t>{}(i.v); }
};
