#include "pmfs/meta/store_impl.h"

#include <algorithm>
#include <cstring>

#include "pmfs/base/guarded.h"
#include "pmfs/meta/superblock.h"

namespace pmfs::meta {

std::array<uint8_t, 16> Store::format(const std::filesystem::path& path, const Geometry& g, uint64_t pool_bytes) {
  return format_pool(path, g, pool_bytes, kHashBits);
}

void probe(const std::filesystem::path& path) {
  // A hang, not a pool that takes its time: libpmemobj goes through its lanes and the headers of its chunks, and follows
  // pointers of its own, round in a circle if they are damaged so.
  constexpr unsigned kSeconds = 300, kCpuSeconds = 1;
  constexpr uint64_t kBytesPerSecond = uint64_t{64} << 20;
  std::error_code ignored;
  const uint64_t bytes = std::filesystem::file_size(path, ignored);
  const unsigned cpu = kCpuSeconds + (ignored ? 0 : static_cast<unsigned>(bytes / kBytesPerSecond));
  Guarded g = guarded(kSeconds, [&] {
    int on = 1;
    pmemobj_ctl_set(nullptr, "copy_on_write.at_open", &on);
    Store::open(path);
    return std::string();
  }, cpu);
  if (g.died) fail(EUCLEAN, "{}: the metadata pool is damaged: opening it {}; see pmfs fsck", path.string(), g.problem);
}

std::unique_ptr<Store> Store::open(const std::filesystem::path& path) {
  return std::make_unique<StoreImpl>(open_pool(path));
}

StoreImpl::StoreImpl(Media m)
    : m_(std::move(m)),
      unit_(unit_of(m_.root->sb)),
      inodes_(m_), bitmap_(m_), ballast_(m_), deferred_(m_), quotas_(m_), shared_(m_), map_(bitmap_, m_.root->sb.blocks, unit_) {
  const SuperblockMedia& sb = m_.root->sb;
  std::memcpy(sb_.uuid, sb.uuid, sizeof(sb_.uuid));
  sb_.version = sb.version;
  sb_.features_compat = sb.features_compat;
  sb_.features_ro = sb.features_ro;
  sb_.features_incompat = sb.features_incompat;
  sb_.geometry = {sb.blocks, sb.region_kind, (sb.geometry_flags & SuperblockMedia::kSparse) != 0, unit_};
  sb_.mount_epoch = m_.root->mount_epoch + 1;
  sb_.was_clean = m_.root->clean == 1;
  sb_.growing_to = m_.root->growing_to;
  for (const Removed& r : deferred_.all())
    for (const Extent& e : r.extents) map_.defer(e);
  quotas_.open();
  WriterLock l(meta_mu_);
  // Crash before: nobody mounted it. After: a mount that did not end cleanly.
  run(Kind::kNeeded, [&] { m_.root->mount_epoch = sb_.mount_epoch; });
  if (!ballast_.full()) ballast_.refill();
}

void StoreImpl::mark_clean() {
  WriterLock l(meta_mu_);
  // Crash before: the next mount takes free blocks for dirty. After: for zero.
  transaction::run(m_.pop, [&] { m_.root->clean = 1; });
}

Space StoreImpl::space() const {
  ReaderLock l(meta_mu_);
  MutexLock a(alloc_mu_);
  Space s;
  s.blocks_total = map_.blocks();
  s.blocks_free = map_.free();
  s.blocks_reserved = map_.reserved();
  s.blocks_deferred = map_.deferred();
  s.blocks_used = s.blocks_total - s.blocks_free - s.blocks_reserved - s.blocks_deferred;
  s.inodes_used = m_.root->inodes.used;
  s.meta_bytes_total = m_.root->sb.pool_bytes;
  s.meta_bytes_used = std::min(m_.pop.allocated_bytes(), s.meta_bytes_total);
  return s;
}

}  // namespace pmfs::meta
