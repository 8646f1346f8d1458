// StoreImpl: blocks of several files.
#include <algorithm>

#include "pmfs/meta/store_impl.h"

namespace pmfs::meta {
namespace {

constexpr size_t kExtentsAtOnce = 64;  // in one transaction

}  // namespace

Shared StoreImpl::share_extents(Ino from, PageRange r, Ino to, Pgoff at, std::optional<uint64_t> new_size) {
  if (r.empty() || r.end > kEndOfFile || r.count() > kEndOfFile - at) fail(EFBIG, "share: pages {} to {}", r.first.v, r.end.v);
  WriterLock l(meta_mu_);
  InodeMedia* source = file(from);
  InodeMedia* target = file(to);
  ExtentMap have(m_.pop, source), get(m_.pop, target);
  auto extents = have.list(r, kExtentsAtOnce + 1);
  Shared out;
  out.next = r.end;
  if (extents.size() > kExtentsAtOnce) {
    out.next = extents.back().pgoff;
    extents.pop_back();
  }
  const PageRange into{at, at + (out.next - r.first)};
  const bool any = get.any(into);
  ExtentMap::Taken taken;
  // Crash before: both files as they were. After: the target has the source's blocks of these pages, each counted as
  // theirs; what it had is on the deferred-free list. The size grows along: nothing written is behind the end.
  run(Kind::kGrow, [&] {
    snapshot_hot(source);
    snapshot_hot(target);
    const uint64_t before = target->blocks;
    if (any) {
      taken = get.remove(into);
      out.removed.id = deferred_.add(taken);
    }
    for (FileExtent e : extents) {
      if (e.unwritten) continue;
      if (!e.shared) have.set_shared(e, true);
      shared_.add(e.blocks());
      e.pgoff = at + (e.pgoff - r.first);
      e.shared = true;
      get.insert(e);
    }
    quotas_.blocks_changed(target, before);
    if (new_size) target->size = std::max(target->size, std::min(*new_size, into.end.bytes()));
    target->mtime_ns = target->ctime_ns = now_ns();
  });
  if (any) deferred_.committed_add(out.removed.id);
  out.removed.extents = std::move(taken.all);
  MutexLock a(alloc_mu_);
  for (const Extent& x : out.removed.extents) map_.defer(x);
  return out;
}

bool StoreImpl::unshare(Ino ino, PageRange r) {
  WriterLock l(meta_mu_);
  InodeMedia* i = file(ino);
  ExtentMap map(m_.pop, i);
  auto extents = map.list(r, SIZE_MAX);
  std::erase_if(extents, [](const FileExtent& e) { return !e.shared; });
  for (const FileExtent& e : extents)
    if (shared_.any(e.blocks())) return false;
  if (extents.empty()) return true;
  // Crash before: flagged as shared, with one owner. After: not flagged. Either is true.
  run(Kind::kNeeded, [&] {
    snapshot_hot(i);
    for (const FileExtent& e : extents) map.set_shared(e, false);
  });
  return true;
}

}  // namespace pmfs::meta
