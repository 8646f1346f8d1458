// What the allocator searches: the block bitmap in DRAM with the volatile reservations on top. A block is free
// iff neither the persistent bitmap nor a reservation has it. A group's bits are read from the media when
// they are first needed.
//
// Not thread-safe: the store's allocator mutex. Reading a group needs the meta mutex too; without it
// (Load::kNo) a member that has to throws NeedsLoad, changing nothing, to be called again with it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "pmfs/base/unit.h"
#include "pmfs/meta/bitmap.h"

namespace pmfs::meta {

class BlockMap {
 public:
  enum class Load : bool { kNo, kYes };
  struct NeedsLoad {};

  BlockMap(const BlockBitmap& media, uint64_t blocks, Unit unit);  // caller: meta mutex

  // As Store::reserve; nullopt: no unit is free.
  std::optional<Extent> reserve(Pfn goal, uint64_t count, uint64_t align, Load load);
  bool reserve_at(Extent e, Load load);
  void grow(uint64_t blocks);  // the new ones are free; after the transaction that did it on the media
  void unreserve(Extent e);  // EINVAL unless all of it is reserved
  bool all_reserved(Extent e) const;
  // After the transaction that did the same on the media:
  void commit(Extent e);                                   // reserved -> used
  void defer(Extent e);                                    // used -> deferred
  void free_deferred(Extent e);                            // deferred -> free
  BlockState state(Pfn p);                                 // meta mutex
  std::vector<Extent> free_extents(Pfn from, size_t max);  // meta mutex

  uint64_t blocks() const { return blocks_; }
  uint64_t free() const { return free_; }
  uint64_t reserved() const { return reserved_; }
  uint64_t deferred() const { return deferred_count_; }

  // For check(): what the group's bits say, nullptr if they were never needed.
  const uint64_t* busy_words(uint64_t group) const { return groups_[group].bits ? groups_[group].bits->busy : nullptr; }
  const uint64_t* reserved_words(uint64_t g) const { return groups_[g].bits ? groups_[g].bits->reserved : nullptr; }
  uint64_t free_of(uint64_t group) const { return groups_[group].free; }
  uint64_t size_of(uint64_t group) const { return std::min(kGroupBlocks, blocks_ - group * kGroupBlocks); }

 private:
  struct Bits {
    uint64_t busy[kGroupWords];  // used, deferred or reserved
    uint64_t reserved[kGroupWords];
  };
  struct Group {
    std::unique_ptr<Bits> bits;
    uint64_t free = 0;
    uint64_t no_run = UINT64_MAX;  // no aligned run of so many or more: don't search again before a free
    bool untouched = false;        // all free and without bits
  };

  Bits& bits(uint64_t group, Load load);
  uint64_t next_free(uint64_t from, uint64_t to, Load load);  // `to` if there is none
  uint64_t next_busy(uint64_t from, uint64_t to, Load load);
  std::optional<uint64_t> find_aligned(uint64_t goal, uint64_t count, uint64_t align, Load load);
  std::optional<uint64_t> find_aligned_in(uint64_t from, uint64_t to, uint64_t count, uint64_t align, Load load);
  std::optional<Extent> reserve_units(uint64_t goal, uint64_t count, Load load);
  Extent find_near(uint64_t goal, uint64_t count, Load load);
  Extent take(uint64_t first, uint64_t count, Load load);
  void give_back(Extent e);

  const BlockBitmap& media_;
  const Unit unit_;
  uint64_t blocks_;
  uint64_t free_ = 0, reserved_ = 0, deferred_count_ = 0;
  std::vector<Group> groups_;
  std::map<uint64_t, uint64_t> deferred_;  // first block -> count
};

}  // namespace pmfs::meta
