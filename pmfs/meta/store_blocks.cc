// StoreImpl: blocks and the extents of files.
#include <sys/stat.h>

#include <algorithm>

#include "pmfs/meta/store_impl.h"

namespace pmfs::meta {
namespace {

void check_range(PageRange r) {
  if (r.end > kEndOfFile) fail(EFBIG, "page {} is behind the largest file offset", r.end.v);
}

void check_size(std::optional<uint64_t> size) {
  if (size && *size > kMaxFileBytes) fail(EFBIG, "{} bytes is more than the largest file", *size);
}

void touch(InodeMedia* i) { i->mtime_ns = i->ctime_ns = now_ns(); }

}  // namespace

Extent StoreImpl::reserve(Pfn goal, uint64_t count, uint64_t align) {
  if (count == 0 || align == 0 || !unit_.whole(count)) fail(EINVAL, "reserve: {} blocks at a multiple of {}", count, align);
  std::optional<Extent> e;
  try {
    MutexLock a(alloc_mu_);
    e = map_.reserve(goal, count, align, BlockMap::Load::kNo);
  } catch (BlockMap::NeedsLoad) {
    ReaderLock l(meta_mu_);
    MutexLock a(alloc_mu_);
    e = map_.reserve(goal, count, align, BlockMap::Load::kYes);
  }
  if (!e && unit_.single()) fail(ENOSPC, "no block is free");
  if (!e) fail(ENOSPC, "no unit of {} blocks is free", unit_.blocks());
  return *e;
}

bool StoreImpl::reserve_at(Extent e) {
  try {
    MutexLock a(alloc_mu_);
    return map_.reserve_at(e, BlockMap::Load::kNo);
  } catch (BlockMap::NeedsLoad) {
    ReaderLock l(meta_mu_);
    MutexLock a(alloc_mu_);
    return map_.reserve_at(e, BlockMap::Load::kYes);
  }
}

void StoreImpl::unreserve(Extent e) {
  MutexLock a(alloc_mu_);
  map_.unreserve(e);
}

BlockState StoreImpl::block_state(Pfn pfn) const {
  ReaderLock l(meta_mu_);
  MutexLock a(alloc_mu_);
  return map_.state(pfn);
}

std::vector<Extent> StoreImpl::free_extents(Pfn from, size_t max) const {
  ReaderLock l(meta_mu_);
  MutexLock a(alloc_mu_);
  return map_.free_extents(from, max);
}

std::optional<FileExtent> StoreImpl::lookup_extent(Ino ino, Pgoff p) {
  ReaderLock l(meta_mu_);
  return ExtentMap(m_.pop, file(ino)).lookup(p);
}

std::vector<FileExtent> StoreImpl::extents(Ino ino, PageRange r, size_t max) {
  ReaderLock l(meta_mu_);
  return ExtentMap(m_.pop, file(ino)).list(r, max);
}

void StoreImpl::commit_extent(Ino ino, const FileExtent& e, std::optional<uint64_t> new_size) {
  if (e.count == 0) fail(EINVAL, "commit of an empty extent");
  if (!unit_.whole(e)) fail(EINVAL, "commit: {} pages from page {}, block {}: not whole units of {}", e.count, e.pgoff.v, e.pfn.v, unit_.blocks());
  check_range(e.range());
  check_size(new_size);
  WriterLock l(meta_mu_);
  InodeMedia* i = file(ino);
  ExtentMap map(m_.pop, i);
  if (map.any(e.range())) {
    fail(EEXIST, "inode {}: pages {} to {} are not a hole", to_u64(ino), e.pgoff.v, e.end().v - 1);
  }
  {
    MutexLock a(alloc_mu_);
    if (!map_.all_reserved(e.blocks())) {
      fail(EINVAL, "commit: blocks {} to {} are not all reserved", e.pfn.v, e.pfn.v + e.count - 1);
    }
  }
  // Crash before: the blocks are free (the reservation is gone with the process), the pages a hole. After:
  // the blocks are the file's, in the bitmap, the map and i_blocks.
  run(Kind::kGrow, [&] {
    snapshot_hot(i);
    bitmap_.set(e.blocks());
    const uint64_t before = i->blocks;
    map.insert(e);
    quotas_.blocks_changed(i, before);
    if (new_size) i->size = std::max(i->size, *new_size);
    i->ctime_ns = now_ns();
    if (!e.unwritten) i->mtime_ns = i->ctime_ns;
  });
  MutexLock a(alloc_mu_);
  map_.commit(e.blocks());
}

void StoreImpl::set_flag(Ino ino, PageRange r, bool unwritten, std::optional<uint64_t> new_size) {
  check_range(r);
  check_size(new_size);
  WriterLock l(meta_mu_);
  InodeMedia* i = file(ino);
  ExtentMap map(m_.pop, i);
  auto parts = map.with_flag(r, !unwritten);
  if (parts.empty() && (!new_size || *new_size <= i->size)) return;
  // Crash before: every page of the range reads as it did. After: UNWRITTEN ones read as zero whatever is in
  // the block; written ones as what the caller made durable before.
  run(Kind::kNeeded, [&] {
    snapshot_hot(i);
    for (const FileExtent& part : parts) map.set_flag(part, unwritten);
    if (new_size) i->size = std::max(i->size, *new_size);
    touch(i);
  });
}

void StoreImpl::mark_written(Ino ino, PageRange r, std::optional<uint64_t> new_size) {
  set_flag(ino, r, false, new_size);
}

void StoreImpl::mark_unwritten(Ino ino, PageRange r) { set_flag(ino, r, true, std::nullopt); }

Removed StoreImpl::remove_extents(Ino ino, PageRange r, std::optional<uint64_t> new_size) {
  check_range(r);
  check_size(new_size);
  WriterLock l(meta_mu_);
  Removed out;
  InodeMedia* i = inodes_.get(ino);
  if (!S_ISREG(i->mode)) return out;  // evicting an orphan need not know what it was
  ExtentMap map(m_.pop, i);
  bool any = map.any(r);
  if (!any && (!new_size || *new_size == i->size)) return out;
  ExtentMap::Taken taken;
  // Crash before: the file is whole. After: the pages are a hole, the size is the new one, and the blocks are
  // on the deferred-free list, nobody's and not free: the next mount zaps and frees them.
  run(Kind::kNeeded, [&] {
    snapshot_hot(i);
    if (any) {
      const uint64_t before = i->blocks;
      taken = map.remove(r);
      quotas_.blocks_changed(i, before);
      out.id = deferred_.add(taken);
    }
    if (new_size) i->size = *new_size;
    touch(i);
  });
  if (!any) return out;
  deferred_.committed_add(out.id);
  out.extents = std::move(taken.all);
  MutexLock a(alloc_mu_);
  for (const Extent& e : out.extents) map_.defer(e);
  return out;
}

std::vector<Extent> StoreImpl::finish_free(uint64_t id) {
  std::vector<Extent> unzapped;
  for (bool done = false; !done;) {
    WriterLock l(meta_mu_);
    if (!deferred_.known(id)) fail(ENOENT, "nothing with id {} is on the deferred-free list", id);
    Deferred::Progress p;
    // Crash before: the blocks are on the list, to be zapped again and freed. After: they are free; a record
    // too long for one transaction is shorter by them and keeps its id.
    run(Kind::kNeeded, [&] { p = deferred_.finish_some(id, bitmap_, shared_); });
    deferred_.committed_finish(id, p);
    done = p.done;
    unzapped.insert(unzapped.end(), p.unzapped.begin(), p.unzapped.end());
    MutexLock a(alloc_mu_);
    for (const Extent& e : p.freed) map_.free_deferred(e);
  }
  return unzapped;
}

std::vector<Removed> StoreImpl::deferred() {
  ReaderLock l(meta_mu_);
  return deferred_.all();
}

}  // namespace pmfs::meta
