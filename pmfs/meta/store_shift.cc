// StoreImpl: blocks that change places: under the same page of a file, or under another one.
#include <algorithm>

#include "pmfs/meta/store_impl.h"

namespace pmfs::meta {
namespace {

void touch(InodeMedia* i) { i->mtime_ns = i->ctime_ns = now_ns(); }

}  // namespace

Removed StoreImpl::replace_extent(Ino ino, const FileExtent& e) {
  if (e.count == 0 || e.end() > kEndOfFile) fail(EINVAL, "replace: pages {} to {} are impossible", e.pgoff.v, e.end().v);
  WriterLock l(meta_mu_);
  InodeMedia* i = file(ino);
  {
    MutexLock a(alloc_mu_);
    if (!map_.all_reserved(e.blocks())) {
      fail(EINVAL, "replace: blocks {} to {} are not all reserved", e.pfn.v, e.pfn.v + e.count - 1);
    }
  }
  ExtentMap map(m_.pop, i);
  const bool any = map.any(e.range());
  ExtentMap::Taken taken;
  Removed out;
  // Crash before: the old blocks are the file's, the new ones free. After: the new ones are the file's; the old ones
  // are on the deferred-free list, to be zapped and freed.
  run(Kind::kGrow, [&] {
    snapshot_hot(i);
    const uint64_t before = i->blocks;
    if (any) {
      taken = map.remove(e.range());
      out.id = deferred_.add(taken);
    }
    bitmap_.set(e.blocks());
    map.insert(e);
    quotas_.blocks_changed(i, before);
    i->ctime_ns = now_ns();
  });
  if (any) deferred_.committed_add(out.id);
  out.extents = std::move(taken.all);
  MutexLock a(alloc_mu_);
  map_.commit(e.blocks());
  for (const Extent& x : out.extents) map_.defer(x);
  return out;
}

Removed StoreImpl::collapse_range(Ino ino, PageRange gone, uint64_t new_size) {
  if (gone.empty() || gone.end > kEndOfFile) fail(EINVAL, "collapse: pages {} to {}", gone.first.v, gone.end.v);
  WriterLock l(meta_mu_);
  InodeMedia* i = file(ino);
  ExtentMap map(m_.pop, i);
  const bool any = map.any(gone);
  ExtentMap::Taken taken;
  Removed out;
  // Crash before: the file is whole. After: the range's blocks are on the deferred-free list, all that was behind is
  // in its new place, and the size is the new one.
  run(Kind::kNeeded, [&] {
    snapshot_hot(i);
    if (any) {
      const uint64_t before = i->blocks;
      taken = map.remove(gone);
      quotas_.blocks_changed(i, before);
      out.id = deferred_.add(taken);
    }
    map.move_down(gone);
    i->size = new_size;
    touch(i);
  });
  if (!any) return out;
  deferred_.committed_add(out.id);
  out.extents = std::move(taken.all);
  MutexLock a(alloc_mu_);
  for (const Extent& x : out.extents) map_.defer(x);
  return out;
}

void StoreImpl::insert_range(Ino ino, Pgoff at, uint64_t pages, uint64_t new_size) {
  if (pages == 0) fail(EINVAL, "insert of no pages");
  WriterLock l(meta_mu_);
  InodeMedia* i = file(ino);
  ExtentMap map(m_.pop, i);
  const Pgoff end = map.end();
  if (new_size > kMaxFileBytes || at > kEndOfFile || pages > kEndOfFile - std::max(end, at)) {
    fail(EFBIG, "inode {}: {} more pages at page {} are more than the largest file", to_u64(ino), pages, at.v);
  }
  // Crash before: the file is whole. After: a hole of so many pages, all that was behind it in its new place, and the
  // new size.
  run(Kind::kGrow, [&] {
    snapshot_hot(i);
    map.move_up(at, pages);
    i->size = new_size;
    touch(i);
  });
}

}  // namespace pmfs::meta
