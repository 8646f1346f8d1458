// read, write, append, fsync: the data operations through the manager. They take the same lock entries as a
// fault, page run by page run, and copy with them held: from and to the manager's own buffers only.

#include <algorithm>
#include <cstring>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/base/survive.h"
#include "pmfs/base/sys.h"
#include "pmfs/fs/block_run.h"
#include "pmfs/fs/volume.h"

namespace pmfs {

namespace {

constexpr int64_t kTimeGranularityNs = 4'000'000;  // of mtime, as coarse as a kernel tick

[[noreturn]] void busy(const Inode& i, Pgoff p) {
  fail(EAGAIN, "inode {}: page {} is busy", to_u64(i.ino), p.v);
}

}  // namespace

size_t MountedVolume::read(Inode& i, std::span<std::byte> out, uint64_t offset, Wait wait) {
  size_t done = 0;
  while (done < out.size()) {
    uint64_t pos = offset + done, size = i.i_size.load(std::memory_order_acquire);
    if (pos >= size) break;
    uint64_t in_page = pos & (kBlockSize - 1);
    uint64_t left = std::min<uint64_t>(out.size() - done, size - pos);
    BlockRun run = BlockRun::grab(*this, i, pgoff_of(pos), blocks_for(in_page + left), wait, BlockRun::Eof::kCheck);
    if (run.kind() == BlockKind::kBusy) busy(i, pgoff_of(pos));
    if (run.kind() == BlockKind::kBeyondEof) break;
    if (!run.resolved()) continue;
    size_t n = std::min(left, run.bytes_from(pos));
    if (run.kind() == BlockKind::kWritten || run.kind() == BlockKind::kShared)
      region_->read(out.data() + done, run.extent().pfn_at(pgoff_of(pos)), in_page, n);
    else
      std::memset(out.data() + done, 0, n);
    done += n;
  }
  return done;
}

// Copies into blocks that the caller has locked, or zeroes there (from null); durable when it returns. Of a unit on tmpfs pages may be
// absent (end_tail), and the tmpfs full: then ENOSPC, where the store would end the manager.
void MountedVolume::store_bytes(Pfn first, uint64_t in_block, const std::byte* from, uint64_t bytes) {
  std::byte* const to = region_->address(first) + in_block;
  const auto store = [&] {
    if (from) region_->memcpy_nodrain(to, from, bytes);
    else region_->memset_nodrain(to, 0, bytes);
  };
  if (unit_.single()) store();
  else if (!survive_sigbus(store)) fail(ENOSPC, "the region's memory for block {} can't be had: its tmpfs is full", first.v);
  region_->drain();
}

// Writes into pages run by run. With `extend` (under size_mutex) each run raises the size in the transaction
// that makes its blocks the file's: a crash leaves a prefix of the write, never bytes that were not written.
// Short when a truncate has cut the file meanwhile (extend false).
size_t MountedVolume::write_at(Inode& i, std::span<const std::byte> in, uint64_t offset, bool extend, Wait wait) {
  size_t done = 0;
  while (done < in.size()) {
    uint64_t pos = offset + done, in_page = pos & (kBlockSize - 1);
    BlockRun run = BlockRun::grab(*this, i, pgoff_of(pos), blocks_for(in_page + (in.size() - done)), wait,
                                  extend ? BlockRun::Eof::kIgnore : BlockRun::Eof::kCheck);
    if (run.kind() == BlockKind::kBusy) {
      if (done > 0) break;
      busy(i, pgoff_of(pos));
    }
    if (run.kind() == BlockKind::kBeyondEof) break;
    if (run.kind() == BlockKind::kHole) run.allocate(run.count());
    run.own(run.count());
    run.zero_unwritten();
    if (!run.resolved()) continue;
    bool fresh = run.kind() == BlockKind::kFresh;
    // A zero or unwritten block may be on show read-only: it becomes the file's before it gets data. A fresh one is
    // nobody's: data first, so that a crash never shows an allocated page without them.
    if (!fresh) run.commit();
    // Not into the rest of a unit behind the end of the file, unless the end moves there.
    const uint64_t room = extend ? run.bytes_from(pos) : run.visible(pgoff_of(pos)).end().bytes() - pos;
    size_t n = std::min<uint64_t>(in.size() - done, room);
    store_bytes(run.extent().pfn_at(pgoff_of(pos)), in_page, in.data() + done, n);
    PMFS_PAUSE_POINT("write:copied");
    uint64_t end = pos + n;
    bool raise = extend && end > i.i_size.load();
    if (fresh)
      run.commit(raise ? std::optional(end) : std::nullopt);
    else if (raise)
      store_->grow_size(i.ino, end);
    if (raise) i.set_size(end);
    done += n;
  }
  return done;
}

size_t MountedVolume::write(Inode& i, std::span<const std::byte> in, uint64_t offset, Wait wait) {
  if (in.empty()) return 0;
  if (offset > kMaxFileBytes || in.size() > kMaxFileBytes - offset)
    fail(EFBIG, "offset {} + length {} is beyond the largest file, {} bytes", offset, in.size(), kMaxFileBytes);
  size_t done = 0;
  uint64_t size = i.i_size.load();
  if (offset < size) {
    done = write_at(i, in.first(std::min<uint64_t>(in.size(), size - offset)), offset, false, wait);
    if (done < in.size() && offset + done < size && wait == Wait::kNoWait && done > 0) {
      touch_mtime(i);
      return done;
    }
  }
  if (done < in.size()) {
    if (wait == Wait::kBlock)
      i.size_mutex.Lock();
    else if (!i.size_mutex.TryLock())
      fail(EAGAIN, "inode {}: its size is being changed", to_u64(i.ino));
    try {
      uint64_t old = i.i_size.load();
      if (offset + in.size() > old && offset + done > old) prepare_growth(i, old, offset + done, wait);
      done += write_at(i, in.subspan(done), offset + done, true, wait);
    } catch (...) {
      i.size_mutex.Unlock();
      throw;
    }
    i.size_mutex.Unlock();
  }
  touch_mtime(i);
  return done;
}

uint64_t MountedVolume::append(Inode& i, std::span<const std::byte> in, Wait wait) {
  if (wait == Wait::kBlock)
    i.size_mutex.Lock();
  else if (!i.size_mutex.TryLock())
    fail(EAGAIN, "inode {}: its size is being changed", to_u64(i.ino));
  uint64_t at = i.i_size.load();
  try {
    if (in.size() > kMaxFileBytes - at) fail(EFBIG, "inode {}: append beyond the largest file", to_u64(i.ino));
    prepare_growth(i, at, at, wait);
    const size_t n = write_at(i, in, at, true, wait);
    if (n < in.size()) write_at(i, in.subspan(n), at + n, true, Wait::kBlock);  // begun: a part of it would be no append
  } catch (...) {
    i.size_mutex.Unlock();
    throw;
  }
  i.size_mutex.Unlock();
  touch_mtime(i);
  return at;
}

void MountedVolume::touch_mtime(Inode& i) {
  int64_t now = sys().realtime_ns();
  if (now - i.mtime_ns.load(std::memory_order_relaxed) < kTimeGranularityNs) return;
  i.mtime_ns.store(now, std::memory_order_relaxed);
  store_->set_times(i.ino, INT64_MIN, now);
}

void MountedVolume::note_stores(Inode& i) {
  if (!i.stores_unseen.load()) return;
  // First the mark, then the look: a mapping that comes in between sets it again before it can be stored to.
  i.stores_unseen.store(false);
  const auto holders = i.pte_holders();
  if (std::any_of(holders.begin(), holders.end(), [](const auto& h) { return !h->gone(); })) i.stores_unseen.store(true);
  touch_mtime(i);
}

// Flushes the stores to the pages of `r` that are marked dirty, and takes the marks away where no store can reach the
// block any more without a fault that makes a new one. The lock entries are held until all is flushed: another fsync that finds
// no mark may rely on it.
// Source: fs/dax.c dax_writeback_one.
void MountedVolume::write_back(Inode& i, PageRange r) {
  for (Pgoff p = r.first; p < r.end;) {
    BlockRun run = BlockRun::grab(*this, i, p, std::min(r.end - p, kHugeBlocks), Wait::kBlock, BlockRun::Eof::kIgnore);
    if (!run.resolved()) continue;
    if (run.kind() == BlockKind::kWritten && run.dirty()) {
      const bool clean = protect(i, run.extent().range());
      PMFS_PAUSE_POINT("fsync:before_flush");
      region_->flush(region_->address(run.extent().pfn), run.count() * kBlockSize);
      region_->drain();
      if (clean) run.mark_clean();
    }
    p = std::max(run.end(), p + 1);
  }
}

// The caller has the pages' entries locked. False: somebody may go on storing to them unseen.
bool MountedVolume::protect(Inode& i, PageRange r) {
  if (!gated() || strangers() != 0 || i.foreign_ptes.load() != 0) return false;
  const auto holders = i.pte_holders();
  return std::all_of(holders.begin(), holders.end(), [r](const auto& h) { return h->write_protect(r); });
}

// Metadata is synchronous; what is left are stores through mappings: to the pages that were installed writable.
void MountedVolume::fsync(Inode& i, PageRange pages, Wait wait) {
  const auto not_if_no_wait = [&] {
    if (wait == Wait::kNoWait) fail(EAGAIN, "inode {}: there is something to flush or to wait for", to_u64(i.ino));
  };
  note_stores(i);
  if (i.all_dirty.load()) {
    not_if_no_wait();
    const bool last_time = strangers() == 0 && i.foreign_ptes.load() == 0;
    for (const FileExtent& e : store_->extents(i.ino, {Pgoff(0), kEndOfFile}, SIZE_MAX))
      for (Pgoff p = e.pgoff; p < e.end();) {
        BlockRun run = BlockRun::grab(*this, i, p, e.end() - p, Wait::kBlock, BlockRun::Eof::kIgnore);
        if (run.kind() == BlockKind::kWritten)
          region_->flush(region_->address(run.extent().pfn), run.count() * kBlockSize);
        p = std::max(run.end(), p + 1);
      }
    region_->drain();
    if (last_time) i.all_dirty.store(false);
  }
  // A fault's mark comes when its entry is unlocked; its store may have happened before, by the PTE that is there already.
  if (!i.entries.drain(pages, wait)) not_if_no_wait();
  std::vector<PageRange> dirty;
  i.entries.for_each(pages, [&](Pgoff head, exclusion::Entry e) {
    if (!e.dirty()) return;
    if (dirty.empty() || dirty.back().end != head) dirty.push_back({head, head});
    dirty.back().end = head + e.pages();
  });
  if (!dirty.empty()) not_if_no_wait();
  for (const PageRange& r : dirty) write_back(i, r);
}

}  // namespace pmfs
