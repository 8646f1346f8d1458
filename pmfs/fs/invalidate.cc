// invalidate: what takes blocks away from a file. One algorithm for truncate, punch, zero range and the last
// close; design.md section 4.
//
//   exclusion over the pages -> metadata transaction (extents leave the inode, blocks join the deferred-free
//   list) -> i_size -> zero the partial edge pages -> zap, or clients are asked (acked.cc), or both -> lock entries out
//   -> blocks back to the allocator
//
// A crash before the transaction leaves the file as it was; after it, the operation has happened, and the
// deferred-free list says which blocks mount has to zap and free.

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/base/sys.h"
#include "pmfs/fs/block_run.h"
#include "pmfs/fs/exclusive.h"
#include "pmfs/fs/refill.h"
#include "pmfs/fs/volume.h"

namespace pmfs {

namespace {

void check_range(uint64_t offset, uint64_t length) {
  if (length == 0) fail(EINVAL, "length 0");
  if (offset > kMaxFileBytes || length > kMaxFileBytes - offset)
    fail(EFBIG, "offset {} + length {} is beyond the largest file, {} bytes", offset, length, kMaxFileBytes);
}

}  // namespace

// `whole`: pages that lose their blocks; `pages` also has the partial edges, a page or, in larger units, a unit each. `edges` runs when the
// transaction is done, with the pages excluded.
void MountedVolume::invalidate(Inode& i, PageRange pages, PageRange whole, std::optional<uint64_t> new_size, Wait wait,
                        BlockEvent what, uint64_t client, const std::function<void()>& edges) {
  int64_t start = sys().monotonic_ns();
  retry_stuck();
  split_edges(i, pages, whole, wait);
  {
    Exclusive exclusive(i, pages, wait);
    PMFS_PAUSE_POINT("invalidate:entered");
    own_edges(i, pages, whole);
    meta::Removed removed = store_->remove_extents(i.ino, whole, new_size);
    std::vector<Extent> zeros;
    i.entries.for_each(whole, [&](Pgoff, exclusion::Entry e) {
      if (e.zero()) zeros.push_back({e.pfn(), e.pages()});
    });
    {
      MutexLock l(i.alloc_mutex);
      i.placement.release(whole);
    }
    if (new_size) i.set_size(*new_size);
    edges();
    PMFS_PAUSE_POINT("invalidate:before_zap");
    give_back(i, &exclusive.ticket(), removed, zeros, whole, what, client);
    PMFS_PAUSE_POINT("invalidate:done");
  }
  counters_.invalidates.add();
  i.traffic.invalidates.add();
  counters_.invalidate_ns.record(sys().monotonic_ns() - start);
  if (!options_.free_in_settle) settle();
  freed();
}

// A partial edge page keeps its lock entry, so it must not be part of a 2 MiB one that goes. Where order-0
// entries have been made no 2 MiB entry appears again, so this can be done ahead of the exclusion.
void MountedVolume::split_edges(Inode& i, PageRange pages, PageRange whole, Wait wait) {
  if (!unit_.single()) return;  // an edge is a unit, and so is its entry
  for (Pgoff p : {pages.first, pages.end - 1}) {
    if (pages.empty() || whole.contains(p)) continue;
    exclusion::LockedEntry e = i.entries.lock(p, 0, wait);
    if (!e) fail(EAGAIN, "inode {}: page {} is busy", to_u64(i.ino), p.v);
    if (exclusion::Entry{e.word}.order() != 0) e = i.entries.split(e, p);
    i.entries.unlock(e, e.value);
  }
}

// Zap, then forget, then free; in this order, or a PTE could outlive the ownership of its block.
void MountedVolume::give_back(Inode& i, exclusion::InvalidateTicket* ticket, const meta::Removed& removed,
                       const std::vector<Extent>& zeros, PageRange whole, BlockEvent what, uint64_t client) {
  Stuck s{removed.id, removed.extents, zeros};
  if (direct_strangers() != 0) strangers();  // who has ended is none any more
  const bool asked = !s.extents.empty() && must_ask(i);  // volatile zero blocks are never mapped directly
  const bool zapped = asked ? !gated() || try_zap(s, Zap::kAgain) : try_zap(s, Zap::kLast);
  if (asked) hold(i, whole, s);
  if (ticket) i.exclusion->unmapped(ticket);
  PMFS_PAUSE_POINT("invalidate:before_free");
  i.entries.erase(whole, i.exclusion->erase_mode());
  uint64_t zero_count = 0;
  for (Extent e : zeros) zero_count += e.count;
  i.zero_blocks.fetch_sub(zero_count);
  counters_.zero_blocks.sub(zero_count);
  if (owners_) {
    for (Extent e : removed.extents) owners_->record(what, client, i.ino, whole.first, e);
    for (Extent e : zeros) owners_->record(what, client, i.ino, whole.first, e);
  }
  if (!zapped) {
    // The blocks are neither the file's nor free: on the deferred-free list (or reserved), tried again by the next
    // invalidate and at mount. The file is consistent; the caller learns that PTEs may be left.
    if (!asked) {
      MutexLock l(stuck_mutex_);
      stuck_.push_back(std::move(s));
    }
    fail(EIO, "inode {}: the kernel refused to take its pages away from clients; the blocks stay quarantined",
         to_u64(i.ino));
  }
  for (auto* list : {&s.extents, &s.zeros})
    for (Extent e : *list) i.traffic.zapped_pages.add(e.count);
  if (asked) return;
  // No PTE is left, so the caller need not wait for the rest; a crash before it is what the deferred-free list is for.
  unsettled_.fetch_add(1);
  MutexLock l(stuck_mutex_);
  zapped_.push_back(std::move(s));
}

bool MountedVolume::try_zap(const Stuck& s, Zap which) {
  try {
    for (auto* list : {&s.extents, &s.zeros})
      for (Extent e : *list) {
        which == Zap::kLast ? region_->zap(e) : region_->zap_free(e);
        counters_.zaps.add();
        counters_.zapped_pages.add(e.count);
      }
    return true;
  } catch (const Error&) {
    return false;
  }
}

// Takes out of `s` what is done, so that after an Error only the rest is tried again.
void MountedVolume::finish(Stuck& s) {
  for (auto* list : {&s.extents, &s.zeros})
    for (Extent e : *list) {
      if (owners_) owners_->clear(e);
    }
  if (s.id != 0) {
    for (Extent e : store_->finish_free(s.id)) {  // shared until now: free, but their memory is still there
      if (!store_->reserve_at(e)) continue;       // somebody has them already
      region_->zap(e);
      store_->unreserve(e);
      refill_->add(e);
    }
  }
  s.id = 0;
  for (Extent e : std::exchange(s.extents, {})) refill_->add(e);
  while (!s.zeros.empty()) {
    Extent e = s.zeros.back();
    s.zeros.pop_back();
    store_->unreserve(e);
    refill_->add(e);
  }
}

// On return what was zapped before the call is free, whichever thread freed it (unless
// others kept zapping all the while).
void MountedVolume::finish_zapped() {
  constexpr int kLooks = 100;
  constexpr std::chrono::milliseconds kLook{10};
  for (int i = 0; i < kLooks && unsettled_.load() != 0; ++i) {
    finish_some_zapped();
    MutexLock l(stuck_mutex_);
    if (zapped_.empty() && unsettled_.load() != 0) settled_.WaitFor(stuck_mutex_, kLook);
  }
}

void MountedVolume::finish_some_zapped() {
  if (unsettled_.load() == 0) return;
  std::vector<Stuck> todo;
  {
    MutexLock l(stuck_mutex_);
    todo.swap(zapped_);
  }
  for (Stuck& s : todo) {
    try {
      finish(s);
    } catch (const Error&) {  // on the deferred-free list still: tried again by the next invalidate and at mount
      MutexLock l(stuck_mutex_);
      stuck_.push_back(std::move(s));
    }
    MutexLock l(stuck_mutex_);
    if (unsettled_.fetch_sub(1) == 1) settled_.SignalAll();
  }
}

// Ahead of settle(): who looks for blocks from here on finds them, by finish_zapped() if need be.
void MountedVolume::freed() {
  times_freed_.fetch_add(1);
  if (on_freed_) on_freed_();
}

meta::Space MountedVolume::space() {
  finish_zapped();
  return store_->space();
}

void MountedVolume::retry_stuck() {
  std::vector<Stuck> todo;
  {
    MutexLock l(stuck_mutex_);
    todo.swap(stuck_);
  }
  for (auto& s : todo) {
    bool zapped = try_zap(s, Zap::kLast);
    if (zapped) unsettled_.fetch_add(1);
    MutexLock l(stuck_mutex_);
    (zapped ? zapped_ : stuck_).push_back(std::move(s));
  }
}

// Zeroes file bytes [from, to) of one unit, if it has written blocks. It is excluded by the caller.
void MountedVolume::zero_bytes(Inode& i, uint64_t from, uint64_t to) {
  if (from >= to) return;
  Pgoff p = pgoff_of(from);
  auto e = store_->lookup_extent(i.ino, p);
  if (!e || e->unwritten || e->shared) return;
  uint64_t in_page = from & (kBlockSize - 1);
  store_bytes(e->pfn_at(p), in_page, nullptr, to - from);
}

// Gated: takes the pages of the last unit that are beyond the end from every client, so that it gets SIGBUS there as it does beyond
// units of one block. The unit is excluded by the caller, and zero there. Where a PTE may be one of a whole unit that can't be
// had (semantics.md).
void MountedVolume::end_tail(Inode& i, uint64_t size) {
  const PageRange tail{Pgoff(blocks_for(size)), unit_.up(Pgoff(blocks_for(size)))};
  if (tail.empty() || !gated() || region_->kind() != RegionKind::kShmem) return;
  std::optional<Extent> blocks;
  if (auto e = store_->lookup_extent(i.ino, tail.first)) {
    if (!e->shared) blocks = Extent{e->pfn_at(tail.first), tail.count()};  // shared: nobody has it mapped
  } else if (exclusion::Entry zero = i.entries.peek(tail.first); zero.present()) {
    blocks = Extent{zero.pfn() + (tail.first - unit_.down(tail.first)), tail.count()};
  }
  if (!blocks) return;
  region_->zap_free(*blocks);
  try {
    region_->make_zero(*blocks);
  } catch (const Error&) {  // somebody else has taken the tmpfs' memory: absent pages are zero too, and who stores there is told
  }
  region_->hand_out(*blocks);
}

void MountedVolume::truncate(Inode& i, uint64_t size, Wait wait, uint64_t client) {
  if (size > kMaxFileBytes) fail(EFBIG, "size {} is beyond the largest file, {} bytes", size, kMaxFileBytes);
  SizeLock size_lock(i, wait);
  uint64_t old = i.i_size.load();
  if (size >= old) {
    if (size > old) grow(i, size, wait);
    return;
  }
  PageRange pages{unit_.down(pgoff_of(size)), kEndOfFile}, whole{unit_.up(Pgoff(blocks_for(size))), kEndOfFile};
  invalidate(i, pages, whole, size, wait, BlockEvent::kTruncate, client,
             [&] {
               zero_bytes(i, size, whole.first.bytes());  // behind the old end too, as the kernel does
               end_tail(i, size);
             });
}

void MountedVolume::punch(Inode& i, uint64_t offset, uint64_t length, Wait wait, uint64_t client) {
  check_range(offset, length);
  uint64_t end = offset + length;
  PageRange pages = unit_.touched(offset, end), whole = unit_.inside(offset, end);
  invalidate(i, pages, whole.empty() ? PageRange{pages.first, pages.first} : whole, std::nullopt, wait,
             BlockEvent::kPunch, client, [&] { zero_edges(i, offset, end, whole); });
}

void MountedVolume::zero_edges(Inode& i, uint64_t offset, uint64_t end, PageRange whole) {
  if (whole.end < whole.first) {  // inside one unit
    zero_bytes(i, offset, end);
    return;
  }
  zero_bytes(i, offset, whole.first.bytes());
  zero_bytes(i, whole.end.bytes(), end);
}

// Whole units keep their blocks, as UNWRITTEN; what they held can't be seen again. Never changes the size.
void MountedVolume::zero_range(Inode& i, uint64_t offset, uint64_t length, Wait wait, uint64_t client) {
  check_range(offset, length);
  uint64_t end = offset + length;
  SizeLock size_lock(i, wait);
  end = std::min(end, i.i_size.load());
  if (offset >= end) return;
  PageRange pages = unit_.touched(offset, end), whole = unit_.inside(offset, end);
  if (!whole.empty() && shares(i, whole)) {  // others' blocks can't be kept: new ones
    invalidate(i, pages, whole, std::nullopt, wait, BlockEvent::kZeroRange, client,
               [&] { zero_edges(i, offset, end, whole); });
    return fill_holes(i, whole, wait);
  }
  int64_t start = sys().monotonic_ns();
  split_edges(i, pages, whole, wait);
  {
    Exclusive exclusive(i, pages, wait);
    own_edges(i, pages, whole);
    zero_edges(i, offset, end, whole);
    if (!whole.empty() && !gated()) {
      // Clients go on storing to these blocks, which therefore stay what they are. Crash meanwhile: zero in part.
      for (const FileExtent& e : store_->extents(i.ino, whole, SIZE_MAX))
        if (!e.unwritten) region_->memset_nodrain(region_->address(e.pfn), 0, e.count * kBlockSize);
      region_->drain();
    } else if (!whole.empty()) {
      // Crash before: the old bytes. After: unwritten, so zeros, whatever the blocks hold.
      store_->mark_unwritten(i.ino, whole);
      // Who maps them directly goes on doing so, and finds zeros there: no canaries then.
      const bool direct = must_ask(i);
      for (const FileExtent& e : store_->extents(i.ino, whole, SIZE_MAX)) {
        direct ? region_->zap_free(e.blocks()) : region_->zap(e.blocks());
        counters_.zaps.add();
        counters_.zapped_pages.add(e.count);
        i.traffic.zapped_pages.add(e.count);
        if (owners_) owners_->record(BlockEvent::kZeroRange, client, i.ino, e.pgoff, e.blocks());
      }
      forget_written(i, whole);
    }
  }
  counters_.invalidates.add();
  i.traffic.invalidates.add();
  counters_.invalidate_ns.record(sys().monotonic_ns() - start);
}

// Drops the cached entries of `r` but the zero blocks, which still are what the pages read as.
void MountedVolume::forget_written(Inode& i, PageRange r) {
  if (i.exclusion->erase_mode() == exclusion::LockEntryTree::Erase::kMarked) {
    i.entries.update(r, [](Pgoff, exclusion::Entry e) { return e.zero() ? e : exclusion::Entry{}; });
    return;
  }
  std::vector<PageRange> gone;
  i.entries.for_each(r, [&](Pgoff head, exclusion::Entry e) {
    if (!e.zero()) gone.push_back({std::max(head, r.first), std::min(head + e.pages(), r.end)});
  });
  for (PageRange g : gone) i.entries.erase(g, exclusion::LockEntryTree::Erase::kSteal);
}

// --- growing

// What lies behind the old end in its last unit must read as zero once it is inside: a client may have stored there through its
// mapping, or a write that a crash cut short. Of a unit of one block all of that, of a larger one what is before `seen_to`: where the
// new end is, or where a write begins that brings it there.
void MountedVolume::prepare_growth(Inode& i, uint64_t old_size, uint64_t seen_to, Wait wait) {
  uint64_t in_unit = old_size & (unit_.bytes() - 1);
  if (in_unit == 0 || (!unit_.single() && seen_to <= old_size)) return;
  const uint64_t room = unit_.bytes() - in_unit, bytes = unit_.single() ? room : std::min(room, seen_to - old_size);
  BlockRun run = BlockRun::grab(*this, i, pgoff_of(old_size), 1, wait, BlockRun::Eof::kIgnore);
  if (run.kind() == BlockKind::kBusy) fail(EAGAIN, "inode {}: its last page is busy", to_u64(i.ino));
  run.own(1);
  if (run.kind() != BlockKind::kWritten) return;
  store_bytes(run.extent().pfn, in_unit, nullptr, bytes);
}

void MountedVolume::grow(Inode& i, uint64_t size, Wait wait) {
  prepare_growth(i, i.i_size.load(), size, wait);
  store_->grow_size(i.ino, size);
  i.set_size(size);
}

void MountedVolume::extend(Inode& i, uint64_t size, Wait wait) {
  SizeLock size_lock(i, wait);
  if (size > i.i_size.load()) grow(i, size, wait);
}

void MountedVolume::preallocate(Inode& i, uint64_t offset, uint64_t length, bool keep_size, Wait wait) {
  check_range(offset, length);
  uint64_t end = offset + length;
  SizeLock size_lock(i, wait);
  Pgoff last(blocks_for(end));
  if (blocks_for(length) > store_->space().blocks_total)
    fail(ENOSPC, "inode {}: {} bytes don't fit the volume", to_u64(i.ino), length);
  fill_holes(i, {pgoff_of(offset), last}, wait);
  if (!keep_size && end > i.i_size.load()) grow(i, end, wait);
}

void MountedVolume::fill_holes(Inode& i, PageRange r, Wait wait) {
  for (Pgoff p = r.first; p < r.end;) {
    BlockRun run = BlockRun::grab(*this, i, p, std::min<uint64_t>(r.end - p, 4 * kHugeBlocks), wait, BlockRun::Eof::kIgnore);
    if (run.kind() == BlockKind::kBusy) fail(EAGAIN, "inode {}: page {} is busy", to_u64(i.ino), p.v);
    if (run.kind() == BlockKind::kHole) run.preallocate(run.count());
    if (run.kind() == BlockKind::kZero) run.commit();
    p = run.end();
  }
}

}  // namespace pmfs
