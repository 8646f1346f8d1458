// Mounting, recovery, unmounting, eviction, and finding space when there seems to be none.

#include "pmfs/fs/volume.h"

#include <cstring>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/fs/block_run.h"
#include "pmfs/fs/refill.h"

namespace pmfs {

namespace {

constexpr char kMetaName[] = "meta", kDataName[] = "data", kLockName[] = "lock";

const exclusion::SchemeInfo* pick_scheme(const VolumeOptions& o) {
  const exclusion::SchemeInfo* s = exclusion::find_scheme(o.exclusion);
  std::string names;
  for (const auto& i : exclusion::schemes()) names += fmt::format("{}{}", names.empty() ? "" : ", ", i.name);
  if (!s) fail(EINVAL, "exclusion scheme '{}': there is none of that name; there are {}", o.exclusion, names);
  if (!s->sound && !o.allow_broken)
    fail(EINVAL, "exclusion scheme '{}': is broken on purpose and would lose data; it is for the torture tool", s->name);
  return s;
}

}  // namespace

UniqueFd lock_volume(const std::filesystem::path& dir) {
  std::string path = dir / kLockName;
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) fail(errno, "volume {}: can't open {}: {}", dir.string(), path, std::strerror(errno));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    char pid[32] = "?";
    ssize_t n = ::pread(fd.get(), pid, sizeof pid - 1, 0);
    if (n > 0) pid[n] = 0;
    fail(EBUSY, "volume {}: is served by process {}; stop that one first (pmfs shutdown {})", dir.string(), pid,
         dir.string());
  }
  std::string pid = std::to_string(::getpid());
  if (::ftruncate(fd.get(), 0) != 0 || ::pwrite(fd.get(), pid.data(), pid.size(), 0) < 0)
    fail(errno, "volume {}: can't write {}: {}", dir.string(), path, std::strerror(errno));
  return fd;
}

// The unit of a new volume there, if it can be had.
Unit pick_unit(const FormatOptions& o, const RegionSource& source) {
  const Unit unit = o.unit_blocks != 0 ? Unit(o.unit_blocks) : source.align();
  if (!Unit::possible(unit.blocks()))
    fail(o.unit_blocks != 0 ? EINVAL : ENOTSUP, "units of {} bytes: there are units of {} and {} bytes", unit.bytes(), kBlockSize,
         Unit(kHugeBlocks).bytes());
  if (unit.bytes() % source.align_bytes != 0)
    fail(EINVAL, "units of {} bytes: mappings of {} are aligned to {} bytes; leave --unit out", unit.bytes(), o.device.string(),
         source.align_bytes);
  return unit;
}

Formatted format_volume(const std::filesystem::path& dir, const FormatOptions& o) {
  RegionSource source;
  uint64_t blocks = o.blocks;
  if (!o.device.empty()) {
    source = look_at_source(o.device);
    if (blocks == 0 && source.device_bytes == 0) fail(EINVAL, "volume {}: how large? only a device has a size of its own", dir.string());
    if (blocks == 0) blocks = pick_unit(o, source).down(source.device_bytes / kBlockSize - 1);  // the last is the label's
  }
  if (blocks < kMinBlocks)
    fail(EINVAL, "volume {}: {} MiB is too small; at least {} MiB", dir.string(), blocks >> 8, kMinBlocks >> 8);
  std::error_code ec;
  bool made_dir = std::filesystem::create_directories(dir, ec);
  if (ec) fail(ec.value(), "volume {}: can't create the directory: {}", dir.string(), ec.message());
  UniqueFd lock;
  Unit unit;
  auto meta = dir / kMetaName, data = dir / kDataName;
  try {
    if (o.device.empty()) source = look_at_source(dir);
    unit = pick_unit(o, source);
    if (!unit.whole(blocks))
      fail(EINVAL, "volume {}: {} bytes are not whole units of {} bytes; round the size", dir.string(), blocks * kBlockSize, unit.bytes());
    lock = lock_volume(dir);
    if (std::filesystem::exists(meta) || std::filesystem::exists(std::filesystem::symlink_status(data))) {
      if (!o.force) fail(EEXIST, "volume {}: there is a volume already; --force destroys it and all its files", dir.string());
      made_dir = false;
      std::filesystem::remove(meta);
      std::filesystem::remove(data);
      std::filesystem::remove(dir / "clients");  // the old volume's clients are not this one's
    }
  } catch (...) {
    if (made_dir) std::filesystem::remove_all(dir, ec);
    throw;
  }
  // The region first: a crash in between leaves a directory that mount calls incomplete, not a volume.
  try {
    create_region(data, {source.kind, blocks, !o.sparse, o.force, o.device, o.progress});
    label_region(data, source.kind, meta::Store::format(meta, {blocks, static_cast<uint32_t>(source.kind), o.sparse, unit}));
  } catch (...) {
    if (source.kind == RegionKind::kHugetlb && std::filesystem::is_symlink(data)) std::filesystem::remove(o.device, ec);  // made just now
    std::filesystem::remove(data, ec);
    std::filesystem::remove(meta, ec);
    std::filesystem::remove(dir / kLockName, ec);
    if (made_dir) std::filesystem::remove(dir, ec);
    throw;
  }
  return {source, blocks, unit};
}

MountedVolume::MountedVolume(const std::filesystem::path& dir, const VolumeOptions& o)
    : dir_(dir),
      options_(o),
      scheme_(pick_scheme(o)),
      inodes_(
          [this](Ino ino) {
            meta::InodeAttr a = store_->getattr(ino);
            if (S_ISLNK(a.mode)) fail(ELOOP, "inode {}: is a symbolic link", to_u64(ino));
            if (!S_ISREG(a.mode)) fail(EISDIR, "inode {}: is a directory", to_u64(ino));
            auto inode = std::make_shared<Inode>(ino, a.size, *scheme_, *store_);
            inode->all_dirty.store(!store_->superblock().was_clean);
            if (owners_) track_owners(ino);
            return inode;
          },
          [this](Inode& i) { evict(i); }) {
  if (!std::filesystem::exists(dir / kMetaName))
    fail(ENOENT, "volume {}: there is no volume; make one with pmfs mkfs {} --size 1G", dir.string(), dir.string());
  lock_ = lock_volume(dir);
  if (o.probe) meta::probe(dir / kMetaName);
  store_ = meta::Store::open(dir / kMetaName);
  unit_ = store_->unit();
  meta::Superblock sb = store_->superblock();
  region_ = open_region(dir / kDataName, static_cast<RegionKind>(sb.geometry.region_kind), sb.geometry.blocks,
                        {sb.was_clean, o.canary, sb.growing_to, o.force_acked, std::to_array(sb.uuid), unit_});
  if (sb.growing_to != 0) store_->grow(sb.geometry.blocks);  // a crash before its end: nothing came of it
  locks_ = std::make_unique<ClientLocks>(dir, sb.mount_epoch);
  if (o.trace) owners_ = std::make_unique<OwnerMap>(region_->room());
  refill_ = std::make_unique<Refill>(*region_, *store_, false);
  recover();
  keep_bad_blocks();
  // Persistent memory wears: there nothing is zeroed ahead of its use.
  refill_ = std::make_unique<Refill>(*region_, *store_, !is_dax(region_->kind()) && !sb.geometry.sparse && !o.canary);
}

// Those that are free are reserved for as long as we serve; those of files stay where they are, and reading them fails.
void MountedVolume::keep_bad_blocks() {
  for (Extent e : region_->bad_blocks())
    for (Pfn p = e.first; p < e.end() && p.v < region_->blocks(); ++p)
      if (store_->reserve_at({p, 1})) ++bad_blocks_;
}

// Before anything is taken from the file: clients of a former manager may have PTEs on blocks that ours has not faulted in,
// which stay the file's, for who looks, until they have been zapped.
void MountedVolume::track_owners(Ino ino) {
  for (const FileExtent& e : store_->extents(ino, {Pgoff(0), kEndOfFile}, SIZE_MAX))
    if (!e.shared) owners_->set(ino, e, false);
}

// What a crash between two steps leaves:
//   intent in the metadata  nothing: the volume is as it was, and knows that its region's file may be longer
//   file longer             the same; the next mount cuts the file back
//   metadata transaction    the new blocks are the volume's, free, and read as zero
void MountedVolume::grow(uint64_t blocks) {
  MutexLock one_at_a_time(grow_mutex_);
  const meta::Geometry g = store_->superblock().geometry;
  store_->begin_grow(blocks);
  try {
    PMFS_PAUSE_POINT("grow:begun");
    region_->grow(blocks, !g.sparse);
    try {
      PMFS_PAUSE_POINT("grow:file");
      store_->grow(blocks);
    } catch (...) {
      region_->cut_back(g.blocks);
      throw;
    }
  } catch (...) {
    store_->grow(g.blocks);  // no longer growing
    throw;
  }
  refill_->add({Pfn(g.blocks), blocks - g.blocks});
  freed();
}

MountedVolume::~MountedVolume() {
  const bool held = quarantine_.live() != 0;
  quarantine_.abandon();
  {
    std::vector<std::shared_ptr<const void>> kept;
    MutexLock l(strangers_mutex_);
    kept.swap(strangers_keep_);
  }
  finish_zapped();
  refill_.reset();
  // Free blocks full of canaries, or quarantined ones, are not what a clean mount expects.
  bool stuck;
  {
    MutexLock l(stuck_mutex_);
    stuck = !stuck_.empty() || held;
  }
  if (!options_.canary && !stuck) {
    try {
      store_->mark_clean();
    } catch (const Error&) {  // the next mount recovers
    }
  }
}

// The last reference went. Faults that are still under way find size 0 from here on.
void MountedVolume::evict(Inode& i) {
  // In the grace period somebody may still come for it.
  bool orphan = store_->getattr(i.ino).nlink == 0 && !in_grace_.load();
  PageRange all{Pgoff(0), kEndOfFile};
  try {
    if (orphan) {
      MutexLock size(i.size_mutex);
      invalidate(i, all, all, 0, Wait::kBlock, BlockEvent::kEvict, 0, [] {});
      store_->free_inode(i.ino);
      settle();
      freed();
      return;
    }
    exclusion::InvalidateTicket t;
    i.exclusion->enter_invalidate(all, Wait::kBlock, nullptr, &t);
    i.set_size(0);
    std::vector<Extent> zeros;
    i.entries.for_each(all, [&](Pgoff, exclusion::Entry e) {
      if (e.zero()) zeros.push_back({e.pfn(), e.pages()});
    });
    {
      MutexLock l(i.alloc_mutex);
      i.placement.release(all);
    }
    try {
      give_back(i, &t, {}, zeros, all, BlockEvent::kEvict, 0);
    } catch (...) {
      i.exclusion->leave_invalidate(&t);
      throw;
    }
    i.exclusion->leave_invalidate(&t);
    settle();
    freed();
  } catch (const Error&) {
    // Still on the orphan or deferred-free list: the next mount finishes it.
  }
}

uint64_t MountedVolume::reclaim() {
  uint64_t freed = 0;
  for (auto& other : inodes_.all()) {
    if (other->alloc_mutex.TryLock()) {
      freed += other->placement.release({Pgoff(0), kEndOfFile});
      other->alloc_mutex.Unlock();
    }
    if (other->zero_blocks.load() == 0) continue;
    std::vector<Pgoff> zero;
    other->entries.for_each({Pgoff(0), kEndOfFile}, [&](Pgoff head, exclusion::Entry e) {
      if (e.zero()) zero.push_back(head);
    });
    for (Pgoff p : zero) freed += reclaim_zero(*other, p);
  }
  return freed;
}

// As a fault of that page, so that no invalidate has the same zero block in its hands.
uint64_t MountedVolume::reclaim_zero(Inode& i, Pgoff p) {
  exclusion::FaultTicket t;
  if (!i.exclusion->enter_fault({p, p + unit_.blocks()}, Wait::kNoWait, &t)) return 0;
  uint64_t freed = 0;
  if (exclusion::LockedEntry e = i.entries.lock(p, unit_.order(), Wait::kNoWait)) {
    exclusion::Entry now = e.value;
    if (now.zero() && i.exclusion->fault_locked(&t)) {
      Extent x{now.pfn(), now.pages()};
      try {
        region_->zap(x);
        if (owners_) {
          owners_->record(BlockEvent::kReclaim, 0, i.ino, e.head, x);
          owners_->clear(x);
        }
        store_->unreserve(x);
        i.zero_blocks.fetch_sub(x.count);
        counters_.zero_blocks.sub(x.count);
        freed = x.count;
        now = {};
      } catch (const Error&) {  // can't be zapped: it stays what it is
      }
    }
    i.entries.unlock(e, now);
  }
  i.exclusion->leave_fault(&t);
  return freed;
}

FileExtent MountedVolume::take_blocks(Inode& i, Pgoff p, uint64_t want, PageRange hole,
                               const std::optional<FileExtent>& before) {
  for (bool tried = false;; tried = true) {
    try {
      MutexLock l(i.alloc_mutex);
      return i.placement.take(p, want, hole, i.size_pages(), before);
    } catch (const Error& e) {
      if (e.err() != ENOSPC || tried) throw;
    }
    refill_->quiesce();
    finish_zapped();
    reclaim();
  }
}

}  // namespace pmfs
