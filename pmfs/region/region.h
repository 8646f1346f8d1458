// A region: byte-addressable memory divided into 4 KiB blocks, mapped by the manager, mapped in pieces by
// clients. One interface for gated regions (the manager resolves every PTE fault, zap revokes at once) and
// acked ones (a client's agent must answer before a block may be reused).
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "pmfs/base/types.h"
#include "pmfs/region/label.h"

namespace pmfs {

enum class RegionKind : uint32_t { kShmem = 1, kFsdax = 2, kDevdax = 3, kHugetlb = 4 };
std::string_view region_kind_name(RegionKind k);
constexpr bool is_dax(RegionKind k) { return k == RegionKind::kFsdax || k == RegionKind::kDevdax; }

// All members may be called by any thread, with any lock held; none waits for a client.
class Region {
 public:
  virtual ~Region() = default;

  virtual RegionKind kind() const = 0;
  // Gated: after zap() returns no process has a PTE on the extent. Acked: clients must be asked.
  virtual bool gated() const = 0;
  // Clients map it with MAP_SYNC: the kernel then makes its own metadata durable before a store can happen.
  virtual bool map_sync() const { return false; }
  virtual uint64_t blocks() const = 0;
  // What it can grow to while it is open.
  virtual uint64_t room() const = 0;
  // Makes the file, and so the region, larger; `reserve`: with memory for all of it. The new blocks read as zero. Throws
  // Error(ENOSPC, EFBIG: more than room()); nothing has changed then. Not by two threads at once.
  virtual void grow(uint64_t blocks, bool reserve) = 0;
  // Takes a grow() back; no block of it may be in use.
  virtual void cut_back(uint64_t blocks) = 0;
  // The region's file, O_RDWR; owned by the region. Clients get a duplicate: a capability on all file data.
  virtual int fd() const = 0;
  virtual std::byte* address(Pfn pfn) const = 0;  // the manager's own mapping
  // Says how durable persist() is: "cache line (forced: tmpfs is volatile)", "cache line", "byte", "page".
  virtual std::string_view granularity() const = 0;

  // Known not to be readable: nobody is to be given these.
  virtual std::vector<Extent> bad_blocks() const { return {}; }

  // Makes the blocks of `e`, which must be reserved by the caller and mapped by nobody, present and all
  // zero, durably so. Throws Error(ENOSPC) when the backing tmpfs is full (never SIGBUS).
  virtual void make_zero(Extent e) = 0;
  // The zeroed blocks now hold (or may hold) somebody's data: next time they must be zeroed afresh.
  virtual void hand_out(Extent e) = 0;
  // Is zeroing this free block ahead of its use worth it?
  virtual bool wants_refill(Pfn p) const = 0;
  // Makes the pages of `e` present, contents kept. Throws Error(ENOSPC) as above.
  virtual void populate(Extent e) = 0;
  // Gated: takes every PTE on `e` away from every process, in whatever state it is. Both: forgets the contents; of an acked
  // region the caller knows that nobody has a PTE there.
  // Throws Error on failure: some PTEs may then be left and the blocks must not be reused.
  // Source: shmem_fallocate(FALLOC_FL_PUNCH_HOLE) -> unmap_mapping_range.
  virtual void zap(Extent e) = 0;
  // The same, but that no canary comes into them: of blocks that are free already, found at mount, or that are zapped again before
  // they are used.
  virtual void zap_free(Extent e) = 0;

  // Copies from the region: to other memory, or to another place of the region (not durable before drain()). Throws
  // Error(EIO) naming the block if the memory does not give it back; part of `dst` may then be written.
  void read(void* dst, Pfn from, uint64_t in_block, size_t bytes);
  void copy(Pfn to, Extent from);

  // libpmem2's functions for this mapping.
  virtual void flush(const void* p, size_t bytes) = 0;
  virtual void drain() = 0;
  virtual void* memcpy_nodrain(void* dst, const void* src, size_t bytes) = 0;
  virtual void* memset_nodrain(void* dst, int c, size_t bytes) = 0;
  // With canaries: blocks that were found written while they were free.
  virtual uint64_t canary_errors() const = 0;
  virtual Pfn bad_canary() const = 0;  // the last of them
  void persist(const void* p, size_t bytes) { flush(p, bytes); drain(); }
};

struct RegionOptions {
  // Every block that is free is known to read as zero (fresh or cleanly unmounted volume).
  bool free_blocks_are_zero = false;
  // Fill zapped blocks with kCanary and check it in make_zero (torture's third oracle).
  bool canary = false;
  // A crash while it grew may have left the file up to so many blocks long: it is cut back. Else a longer file is refused.
  uint64_t growing_to = 0;
  // As if the kernel could not zap: nothing is punched, clients must be asked (acked mode on any machine).
  bool acked = false;
  VolumeUuid uuid{};  // whose it must be; of a device
  Unit unit{};        // of the volume: how much of it is mapped at once, at least
};
inline constexpr uint64_t kCanary = 0x5AFEB10C0DEADF5Eull;  // each 8-byte word of a freed block with canary on

using RegionProgress = std::function<void(uint64_t done, uint64_t of)>;  // blocks
struct RegionPlan {
  RegionKind kind = RegionKind::kShmem;
  uint64_t blocks = 0;
  bool reserve = true;            // shmem: allocate all pages now; fsdax: write to them now (they are allocated anyway)
  bool force = false;             // devdax: take it from another volume
  std::filesystem::path device;   // devdax, or the file on hugetlbfs, which is made
  RegionProgress progress;        // or none
};
// Creates PATH: a file, or a link to the device. Throws Error (EEXIST, ENOSPC, ENOTSUP, EBUSY); nothing is left then.
void create_region(const std::filesystem::path& path, const RegionPlan& plan);
// When the volume's metadata is there: the region is that volume's from now on.
void label_region(const std::filesystem::path& path, RegionKind kind, const VolumeUuid& uuid);
// Opens and maps; throws Error naming the path for a foreign, truncated or busy one.
std::unique_ptr<Region> open_region(const std::filesystem::path& path, RegionKind kind, uint64_t blocks, const RegionOptions& o);

// The same of a file on tmpfs. `reserve`: allocate all its pages now (ENOSPC if they don't fit).
void create_shmem_region(const std::filesystem::path& path, uint64_t blocks, bool reserve);
// A file on hugetlbfs; `path` may be a link to it.
std::unique_ptr<Region> open_hugetlb_region(const std::filesystem::path& path, uint64_t blocks, const RegionOptions& o);
std::unique_ptr<Region> open_shmem_region(const std::filesystem::path& path, uint64_t blocks, const RegionOptions& o);

}  // namespace pmfs
