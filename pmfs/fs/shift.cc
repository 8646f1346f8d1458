// collapse and insert range: what is behind the offset moves by whole units.
//
//   exclusion from the offset to EOF -> evacuate: no PTE is left there, contents kept -> one transaction that shifts
//   the extents -> i_size -> zap what the range gave up -> lock entries out -> blocks back to the allocator
//
// evacuate() is what replaces a zap where blocks stay the file's: the kernel's zap takes the contents along, so pages
// that a client may have mapped are copied to other blocks first, write-protected in every client meanwhile.

#include <algorithm>
#include <cstring>

#include <sched.h>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/base/sys.h"
#include "pmfs/fs/exclusive.h"
#include "pmfs/fs/refill.h"
#include "pmfs/fs/volume.h"

namespace pmfs {

namespace {

void check_units(const Inode& i, Unit unit, uint64_t offset, uint64_t length) {
  if (length == 0 || offset % unit.bytes() != 0 || length % unit.bytes() != 0)
    fail(EINVAL, "inode {}: offset {} and length {} must be multiples of {}, and there must be something to move",
         to_u64(i.ino), offset, length, unit.bytes());
}

FileExtent clip(const FileExtent& e, PageRange r) {
  Pgoff first = std::max(e.pgoff, r.first), end = std::min(e.end(), r.end);
  return {first, e.pfn_at(first), end > first ? end - first : 0, e.unwritten};
}

}  // namespace

// What a client may have PTEs on in `r`: what was installed, for reading too. A zero or unwritten block that was shown and
// then written by a call is like any other of the file, but for its old PTE. A mapping that is being taken over from a manager
// that died may have pages that our lock entries know nothing of: everything written counts then.
std::vector<FileExtent> MountedVolume::maybe_mapped(Inode& i, PageRange r) {
  std::vector<FileExtent> out;
  if (i.foreign_ptes.load() != 0) {
    for (const FileExtent& e : store_->extents(i.ino, r, SIZE_MAX))
      if (!e.unwritten && !e.shared) out.push_back(e);
    return out;
  }
  i.entries.for_each(r, [&](Pgoff head, exclusion::Entry e) {
    if (e.zero() || e.unwritten() || !e.shown()) return;
    FileExtent x = clip({head, e.pfn(), e.pages(), false}, r);
    if (!out.empty() && out.back().end() == x.pgoff && out.back().pfn + out.back().count == x.pfn)
      out.back().count += x.count;
    else
      out.push_back(x);
  });
  return out;
}

Extent MountedVolume::reserve_anywhere(Pfn goal, uint64_t count) {
  for (bool tried = false;; tried = true) {
    try {
      return store_->reserve(goal, count, 1);
    } catch (const Error& e) {
      if (e.err() != ENOSPC || tried) throw;
    }
    refill_->quiesce();
    finish_zapped();
    reclaim();
  }
}

// Leaves no PTE on the pages of `r`, which the caller excludes, and keeps what they hold. False: a client's address
// space is changing. Then the exclusion has to be left, so that pagers that wait for it get to the client's events.
// Crash at any point: the file is as it was, in its old blocks or in new ones.
bool MountedVolume::evacuate(Inode& i, PageRange r, Wait wait, BlockEvent what, uint64_t client) {
  // Those can't be asked, or write-protected, as their userfaultfds are not here: what they store meanwhile would be lost.
  if (size_t n = strangers())
    fail(EBUSY, "inode {}: {} client(s) of a former manager live and have not come back yet, so what they map can't be moved; "
         "continue them if they are stopped, or end them, and try again", to_u64(i.ino), n);
  if (must_ask(i)) release_direct(i, r, wait);
  if (!gated()) return true;
  const bool foreign = i.foreign_ptes.load() != 0;
  const std::vector<FileExtent> mapped = maybe_mapped(i, r);
  if (!mapped.empty()) {
    for (const auto& holder : i.pte_holders())
      if (!holder->write_protect(r)) return false;
  }
  PMFS_PAUSE_POINT("evacuate:frozen");
  for (const FileExtent& m : mapped) {
    for (uint64_t done = 0; done < m.count;) {
      Extent to = reserve_anywhere(m.pfn + m.count, std::min(m.count - done, kHugeBlocks));
      meta::Removed old;
      const FileExtent fresh{m.pgoff + done, to.first, to.count, false};
      try {
        region_->make_zero(to);
        region_->hand_out(to);
        region_->copy(to.first, {m.pfn + done, to.count});
        region_->drain();
        old = store_->replace_extent(i.ino, fresh);
      } catch (...) {
        store_->unreserve(to);
        throw;
      }
      if (owners_) owners_->set(i.ino, fresh, false);
      give_back(i, nullptr, old, {}, fresh.range(), what, client);
      done += to.count;
    }
  }
  // Read-only PTEs on unwritten blocks: they hold zeros, which a zap may take.
  std::vector<FileExtent> blank;
  i.entries.for_each(r, [&](Pgoff head, exclusion::Entry e) {
    if (e.unwritten()) blank.push_back(clip({head, e.pfn(), e.pages(), true}, r));
  });
  if (foreign) {
    for (const FileExtent& e : store_->extents(i.ino, r, SIZE_MAX))
      if (e.unwritten) blank.push_back(e);
  }
  for (const FileExtent& e : blank) {
    region_->zap(e.blocks());
    counters_.zaps.add();
    counters_.zapped_pages.add(e.count);
    i.traffic.zapped_pages.add(e.count);
  }
  return true;
}

// `rest`: what the exclusion covers, to the end of the file; `moving`: the part of it that keeps its blocks.
void MountedVolume::shift(Inode& i, PageRange rest, PageRange moving, uint64_t new_size, Wait wait, BlockEvent what,
                          uint64_t client, const std::function<meta::Removed()>& transaction) {
  int64_t start = sys().monotonic_ns();
  retry_stuck();
  for (unsigned attempt = 1;; ++attempt) {
    Exclusive exclusive(i, rest, wait);
    PMFS_PAUSE_POINT("shift:entered");
    if (!evacuate(i, moving, wait, what, client)) {
      if (wait == Wait::kNoWait || attempt == kMaxMoveAttempts)
        fail(EAGAIN, "inode {}: a client that maps it keeps changing its address space", to_u64(i.ino));
      ::sched_yield();
      continue;
    }
    std::vector<Extent> zeros;
    i.entries.for_each(rest, [&](Pgoff, exclusion::Entry e) {
      if (e.zero()) zeros.push_back({e.pfn(), e.pages()});
    });
    i.drop_zeros(rest);
    meta::Removed removed = transaction();
    {
      MutexLock l(i.alloc_mutex);
      i.placement.release(rest);
    }
    i.set_size(new_size);
    PMFS_PAUSE_POINT("shift:before_zap");
    give_back(i, &exclusive.ticket(), removed, zeros, rest, what, client);
    if (owners_) {
      for (const FileExtent& e : store_->extents(i.ino, rest, SIZE_MAX)) owners_->set(i.ino, e, false);
    }
    break;
  }
  counters_.invalidates.add();
  i.traffic.invalidates.add();
  counters_.invalidate_ns.record(sys().monotonic_ns() - start);
  if (!options_.free_in_settle) settle();
  freed();
}

void MountedVolume::collapse(Inode& i, uint64_t offset, uint64_t length, Wait wait, uint64_t client) {
  check_units(i, unit_, offset, length);
  SizeLock size_lock(i, wait);
  const uint64_t size = i.i_size.load();
  if (offset >= size || length >= size - offset)
    fail(EINVAL, "inode {}: the range reaches the end of the file, {} bytes; truncate it instead", to_u64(i.ino), size);
  const PageRange gone{pgoff_of(offset), pgoff_of(offset + length)};
  shift(i, {gone.first, kEndOfFile}, {gone.end, kEndOfFile}, size - length, wait, BlockEvent::kCollapse, client,
        [&] { return store_->collapse_range(i.ino, gone, size - length); });
}

void MountedVolume::insert(Inode& i, uint64_t offset, uint64_t length, Wait wait, uint64_t client) {
  check_units(i, unit_, offset, length);
  SizeLock size_lock(i, wait);
  const uint64_t size = i.i_size.load();
  if (offset >= size)
    fail(EINVAL, "inode {}: nothing is behind offset {}; the file ends at {}", to_u64(i.ino), offset, size);
  if (length > kMaxFileBytes - size)
    fail(EFBIG, "inode {}: {} bytes more are beyond the largest file, {} bytes", to_u64(i.ino), length, kMaxFileBytes);
  const PageRange rest{pgoff_of(offset), kEndOfFile};
  shift(i, rest, rest, size + length, wait, BlockEvent::kInsert, client, [&] {
    store_->insert_range(i.ino, rest.first, length >> kBlockShift, size + length);
    return meta::Removed{};
  });
}

}  // namespace pmfs
