// Shared blocks: clone_range makes them, the first touch through a mapping and the first write end it.
//
// A shared block is never mapped into a client: the kernel's zap takes a block's contents along with its PTEs, so a
// block with PTEs could not be taken from one of its owners and left to the others. Hence clone_range first evacuates
// the source (shift.cc), and a fault, of a load too, gives the file a copy of its own (or the block itself, if nobody
// else has it any more). read() reads shared blocks where they are.

#include <algorithm>
#include <optional>

#include <sched.h>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/base/sys.h"
#include "pmfs/fs/exclusive.h"
#include "pmfs/fs/refill.h"
#include "pmfs/fs/volume.h"

namespace pmfs {

// Gives the file blocks of its own for the pages of `e`, a shared extent or part of one, at most as many as come in one
// piece; what they hold stays. The caller excludes others from the pages, by lock entries or a mark. Returns what it
// has then. Throws Error(ENOSPC, EDQUOT).
FileExtent MountedVolume::own_blocks(Inode& i, FileExtent e) {
  if (store_->unshare(i.ino, e.range())) {
    e.shared = false;
    return e;
  }
  Extent to = reserve_anywhere(e.pfn, std::min(e.count, kHugeBlocks));
  const FileExtent fresh{e.pgoff, to.first, to.count, false};
  meta::Removed old;
  try {
    region_->make_zero(to);
    region_->hand_out(to);
    region_->copy(to.first, {e.pfn, to.count});
    region_->drain();
    PMFS_PAUSE_POINT("cow:copied");
    // Crash before: the shared blocks, the new ones free. After: the new ones, which hold the same.
    old = store_->replace_extent(i.ino, fresh);
  } catch (...) {
    store_->unreserve(to);
    throw;
  }
  if (owners_) owners_->set(i.ino, fresh, false);
  Stuck rest{old.id, old.extents, {}};  // no zap: a shared block has no PTE
  try {
    finish(rest);
  } catch (const Error&) {  // on the deferred-free list still
    MutexLock l(stuck_mutex_);
    stuck_.push_back(std::move(rest));
  }
  return fresh;
}

// Shared pages of `pages` outside of `whole`, which an invalidate is about to zero in part, get blocks of their own.
void MountedVolume::own_edges(Inode& i, PageRange pages, PageRange whole) {
  if (pages.empty()) return;
  for (Pgoff p : {pages.first, pages.end - 1}) {
    if (whole.contains(p)) continue;
    auto e = store_->lookup_extent(i.ino, p);
    const Pgoff first = unit_.down(p);
    if (e && e->shared) own_blocks(i, {first, e->pfn_at(first), unit_.blocks(), false, true});
  }
}

bool MountedVolume::shares(Inode& i, PageRange r) {
  for (const FileExtent& e : store_->extents(i.ino, r, SIZE_MAX))
    if (e.shared) return true;
  return false;
}

void MountedVolume::clone_range(Inode& from, uint64_t from_offset, Inode& to, uint64_t to_offset, uint64_t length,
                                Wait wait, uint64_t client) {
  const bool same = &from == &to;
  // Several inodes in ino order; of one, both ranges and what is between them.
  std::optional<SizeLock> first, second;
  Inode& low = same || to_u64(from.ino) < to_u64(to.ino) ? from : to;
  first.emplace(low, wait);
  if (!same) second.emplace(&low == &from ? to : from, wait);
  const uint64_t size = from.i_size.load(), to_size = to.i_size.load();
  if (from_offset > size) fail(EINVAL, "inode {}: offset {} is behind the end, {}", to_u64(from.ino), from_offset, size);
  if (length == 0) length = size - from_offset;
  if (length > size - from_offset)
    fail(EINVAL, "inode {}: {} bytes at {} reach behind the end, {}", to_u64(from.ino), length, from_offset, size);
  if (length == 0) return;
  if (to_offset > kMaxFileBytes || length > kMaxFileBytes - to_offset)
    fail(EFBIG, "inode {}: offset {} + length {} is beyond the largest file", to_u64(to.ino), to_offset, length);
  const bool to_end = from_offset + length == size;
  const uint64_t unit = unit_.bytes();
  if (from_offset % unit != 0 || to_offset % unit != 0 || (length % unit != 0 && !(to_end && to_offset + length >= to_size)))
    fail(EINVAL, "inode {}: only whole blocks of {} bytes can be shared; copy the range", to_u64(from.ino), unit);
  if (same && from_offset < to_offset + length && to_offset < from_offset + length)
    fail(EINVAL, "inode {}: the ranges overlap", to_u64(from.ino));
  const PageRange source = unit_.touched(from_offset, from_offset + length);
  const PageRange target{pgoff_of(to_offset), pgoff_of(to_offset) + source.count()};
  const int64_t start = sys().monotonic_ns();
  retry_stuck();
  if (to_offset + length > to_size) prepare_growth(to, to_size, to_offset + length, wait);
  for (unsigned attempt = 1;; ++attempt) {
    std::optional<Exclusive> a, b;
    if (same) {
      a.emplace(from, PageRange{std::min(source.first, target.first), std::max(source.end, target.end)}, wait);
    } else {
      a.emplace(low, &low == &from ? source : target, wait);
      b.emplace(&low == &from ? to : from, &low == &from ? target : source, wait);
    }
    if (!evacuate(from, source, wait, BlockEvent::kClone, client)) {
      if (wait == Wait::kNoWait || attempt == kMaxMoveAttempts)
        fail(EAGAIN, "inode {}: a client that maps it keeps changing its address space", to_u64(from.ino));
      b.reset();
      a.reset();
      ::sched_yield();
      continue;
    }
    // What clients stored behind the end is nobody else's business.
    if (size % unit != 0 && to_end) zero_bytes(from, size, source.end.bytes());
    {
      MutexLock l(to.alloc_mutex);
      to.placement.release(target);
    }
    PMFS_PAUSE_POINT("clone:evacuated");
    for (Pgoff p = source.first; p < source.end;) {
      const Pgoff at = target.first + (p - source.first);
      meta::Shared s = store_->share_extents(from.ino, {p, source.end}, to.ino, at, to_offset + length);
      const PageRange done{at, at + (s.next - p)};
      to.drop_zeros(done);
      std::vector<Extent> zeros;
      to.entries.for_each(done, [&](Pgoff, exclusion::Entry e) {
        if (e.zero()) zeros.push_back({e.pfn(), e.pages()});
      });
      give_back(to, nullptr, s.removed, zeros, done, BlockEvent::kClone, client);
      p = s.next;
    }
    // What was cached says that the source's blocks are its own.
    forget_written(from, source);
    if (to_offset + length > to_size) to.set_size(to_offset + length);
    break;
  }
  counters_.invalidates.add();
  to.traffic.invalidates.add();
  counters_.invalidate_ns.record(sys().monotonic_ns() - start);
  if (!options_.free_in_settle) settle();
  freed();
}

}  // namespace pmfs
