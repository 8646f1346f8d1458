// Unit: the group of blocks that a volume allocates, maps and frees as a whole: one block, or 512 of them where memory is mapped
// by entries of 2 MiB. Every extent of a file is made of whole units, in the file and in the region alike, so a page's unit is
// known from its number. With a unit of one block nothing here changes anything.
#pragma once

#include "pmfs/base/types.h"

namespace pmfs {

class Unit {
 public:
  constexpr Unit() = default;
  constexpr explicit Unit(uint64_t blocks) : blocks_(blocks) {}
  static constexpr bool possible(uint64_t blocks) { return blocks == 1 || blocks == kHugeBlocks; }

  constexpr uint64_t blocks() const { return blocks_; }
  constexpr uint64_t bytes() const { return blocks_ << kBlockShift; }
  constexpr bool single() const { return blocks_ == 1; }
  constexpr unsigned order() const { return single() ? 0 : kHugeOrder; }  // of its lock entry

  constexpr uint64_t down(uint64_t n) const { return n & ~(blocks_ - 1); }
  constexpr uint64_t up(uint64_t n) const { return down(n + blocks_ - 1); }
  template <class Tag>
  constexpr Index<Tag> down(Index<Tag> i) const { return Index<Tag>(down(i.v)); }
  template <class Tag>
  constexpr Index<Tag> up(Index<Tag> i) const { return Index<Tag>(up(i.v)); }

  // The units that [first, end) touches.
  constexpr PageRange around(PageRange r) const { return {down(r.first), up(r.end)}; }
  // The same of file bytes, and those that lie inside of them: its end may be in front of its first, by a unit.
  constexpr PageRange touched(uint64_t from, uint64_t to) const { return {down(pgoff_of(from)), up(Pgoff(blocks_for(to)))}; }
  constexpr PageRange inside(uint64_t from, uint64_t to) const { return {up(Pgoff(blocks_for(from))), down(pgoff_of(to))}; }

  constexpr bool whole(uint64_t n) const { return down(n) == n; }
  constexpr bool whole(PageRange r) const { return whole(r.first.v | r.end.v); }
  constexpr bool whole(Extent e) const { return whole(e.first.v | e.count); }
  constexpr bool whole(const FileExtent& e) const { return whole(e.pgoff.v | e.pfn.v | e.count); }
  constexpr bool operator==(const Unit&) const = default;

 private:
  uint64_t blocks_ = 1;
};

}  // namespace pmfs
