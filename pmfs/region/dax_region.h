// Region on DAX memory: a file on ext4 or xfs mounted with DAX (fsdax), or a device (devdax). Acked: see dax_region.cc.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "pmfs/base/unique_fd.h"
#include "pmfs/region/pmem2.h"
#include "pmfs/region/region.h"

namespace pmfs {

class DaxRegion final : public Region {
 public:
  DaxRegion(RegionKind kind, UniqueFd fd, const std::string& path, uint64_t blocks, const RegionOptions& o);
  ~DaxRegion() override;
  DaxRegion(const DaxRegion&) = delete;
  DaxRegion& operator=(const DaxRegion&) = delete;

  RegionKind kind() const override { return kind_; }
  bool gated() const override { return false; }
  bool map_sync() const override { return true; }
  uint64_t blocks() const override { return blocks_.load(std::memory_order_acquire); }
  uint64_t room() const override { return room_; }
  void grow(uint64_t blocks, bool reserve) override;
  void cut_back(uint64_t blocks) override;
  int fd() const override { return fd_.get(); }
  std::byte* address(Pfn pfn) const override { return base_ + pfn.bytes(); }
  std::string_view granularity() const override { return pmem2_.granularity(); }
  std::vector<Extent> bad_blocks() const override;
  void make_zero(Extent e) override;
  void hand_out(Extent) override {}
  bool wants_refill(Pfn) const override { return false; }
  void populate(Extent) override {}  // always are
  void zap(Extent e) override;
  void zap_free(Extent) override {}
  void flush(const void* p, size_t bytes) override { pmem2_.flush(p, bytes); }
  void drain() override { pmem2_.drain(); }
  void* memcpy_nodrain(void* dst, const void* src, size_t bytes) override { return pmem2_.memcpy_nodrain(dst, src, bytes); }
  void* memset_nodrain(void* dst, int c, size_t bytes) override { return pmem2_.memset_nodrain(dst, c, bytes); }
  uint64_t canary_errors() const override { return canary_errors_.load(std::memory_order_relaxed); }
  Pfn bad_canary() const override { return Pfn(bad_canary_.load(std::memory_order_relaxed)); }

 private:
  void check_canary(Pfn p);

  const RegionKind kind_;
  UniqueFd fd_;
  const std::string path_;
  std::atomic<uint64_t> blocks_;
  const uint64_t room_;
  const Pmem2 pmem2_;  // of the first block
  std::byte* base_ = nullptr;
  // With canaries: has this block one? Written by who has it reserved, or has just zapped it.
  std::unique_ptr<std::atomic<bool>[]> canaried_;
  std::atomic<uint64_t> canary_errors_{0}, bad_canary_{0};
};

}  // namespace pmfs
