// The tmpfs implementation of Region; see shmem_region.cc for what is known of each free block.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "pmfs/base/unique_fd.h"
#include "pmfs/region/pmem2.h"
#include "pmfs/region/region.h"

namespace pmfs {

class ShmemRegion final : public Region {
 public:
  // `may_be_huge`: the tmpfs gives huge folios to writes.
  // `kind`: kShmem, or kHugetlb for a file on hugetlbfs, whose pages are units.
  ShmemRegion(RegionKind kind, UniqueFd fd, const std::filesystem::path& path, uint64_t blocks, bool may_be_huge, const RegionOptions& o);
  ~ShmemRegion() override;
  ShmemRegion(const ShmemRegion&) = delete;
  ShmemRegion& operator=(const ShmemRegion&) = delete;

  RegionKind kind() const override { return kind_; }
  bool gated() const override { return !options_.acked; }
  uint64_t blocks() const override { return blocks_.load(std::memory_order_acquire); }
  uint64_t room() const override { return room_; }
  void grow(uint64_t blocks, bool reserve) override;
  void cut_back(uint64_t blocks) override;
  int fd() const override { return fd_.get(); }
  std::byte* address(Pfn pfn) const override;
  std::string_view granularity() const override { return "cache line (forced: tmpfs keeps nothing over a power cut)"; }
  void make_zero(Extent e) override;
  void hand_out(Extent e) override;
  bool wants_refill(Pfn p) const override;
  void populate(Extent e) override;
  void zap(Extent e) override;
  void zap_free(Extent e) override;
  void flush(const void* p, size_t bytes) override;
  void drain() override;
  void* memcpy_nodrain(void* dst, const void* src, size_t bytes) override;
  void* memset_nodrain(void* dst, int c, size_t bytes) override;
  uint64_t canary_errors() const override { return canary_errors_.load(std::memory_order_relaxed); }
  Pfn bad_canary() const override { return Pfn(bad_canary_.load(std::memory_order_relaxed)); }

 private:
  // What a fill writes at a time; bounds how long the file's inode lock is held.
  static constexpr uint64_t kFillBlocks = 16;
  using FillPage = std::array<uint64_t, kFillBlocks * kBlockSize / 8>;

  enum State : uint8_t { kInitial = 0, kUnknown, kAbsent, kZeroed, kOwned, kCanaried };
  State state(Pfn p) const;
  void set_state(Extent e, State s);
  void punch(Extent e);
  bool hugetlb() const { return kind_ == RegionKind::kHugetlb; }
  [[noreturn]] void full() const;
  void fill(Extent e, const FillPage& page);
  void check_canary(Pfn p);

  const RegionKind kind_;
  UniqueFd fd_;
  const std::string path_;
  std::atomic<uint64_t> blocks_;
  const uint64_t room_;
  const bool may_be_huge_;
  const RegionOptions options_;
  const Pmem2 pmem2_;  // of the first block
  std::byte* base_ = nullptr;
  std::atomic<uint8_t>* state_ = nullptr;
  std::atomic<uint64_t> canary_errors_{0}, bad_canary_{0};
};

}  // namespace pmfs
