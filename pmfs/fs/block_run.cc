#include "pmfs/fs/block_run.h"

#include <algorithm>
#include <utility>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/fs/volume.h"

namespace pmfs {

using exclusion::Entry;
using exclusion::LockedEntry;

namespace {

unsigned order_of(const LockedEntry& e) { return Entry{e.word}.order(); }
Pgoff end_of(const LockedEntry& e) { return e.head + (uint64_t{1} << order_of(e)); }
Pgoff huge_head(Pgoff p) { return Pgoff(p.v & ~(kHugeBlocks - 1)); }

}  // namespace

BlockRun BlockRun::grab(MountedVolume& v, Inode& i, Pgoff p, uint64_t want, Wait wait, Eof eof) {
  exclusion::FaultTicket ticket;
  for (;;) {
    BlockRun run(v, i, ticket);
    switch (run.attempt(p, want, wait, eof)) {
      case Attempt::kDone: return run;
      case Attempt::kAgain: v.counters().retries.add(); break;
      case Attempt::kSmaller: want = std::min(want, kHugeBlocks - 1); break;  // not where that is less than a unit
    }
    ticket = run.give_up();
    if (wait == Wait::kNoWait && ticket.retries != 0) return run;  // kBusy
  }
}

BlockRun::Attempt BlockRun::attempt(Pgoff p, uint64_t want, Wait wait, Eof eof) {
  const Pgoff asked = p;
  const PageRange all = unit().around({p, p + want});
  p = all.first;
  entered_ = i_->exclusion->enter_fault(all, wait, &ticket_);
  if (!entered_) return Attempt::kDone;
  // What takes a unit's first page away takes all of the unit: who has excluded that from one page has it from its unit.
  want = unit().up(std::min(all.count(), ticket_.range.end - p));
  if (!lock_first(p, want, wait)) return Attempt::kDone;
  // i_size is read with the entry locked: a truncate either waits for this entry or was seen here.
  const bool check_size = eof == Eof::kCheck && i_->exclusion->fault_checks_size();
  const uint64_t pages = check_size ? i_->size_pages() : kEndOfFile.v;
  if (asked.v >= pages) {
    kind_ = BlockKind::kBeyondEof;
    extent_ = {asked, Pfn(0), 0, false};
  } else {
    want = std::min(want, unit().up(pages) - p.v);
    if (!probe(p, locked_.front().value, want)) return Attempt::kSmaller;
    PMFS_PAUSE_POINT("fault:looked_up");
    lock_rest(want);
    confirm_rest();
  }
  if (!i_->exclusion->fault_locked(&ticket_)) {
    ++ticket_.retries;
    return Attempt::kAgain;
  }
  if (v_->owners_ && kind_ > BlockKind::kHole && kind_ != BlockKind::kShared)
    v_->owners_->set(i_->ino, extent_, kind_ == BlockKind::kZero);
  return Attempt::kDone;
}

// Puts back what the attempt has locked, as it was.
exclusion::FaultTicket BlockRun::give_up() {
  kind_ = BlockKind::kBusy;
  unlock_all();
  leave();
  return ticket_;
}

BlockRun::BlockRun(BlockRun&& o) noexcept
    : v_(o.v_),
      i_(o.i_),
      kind_(o.kind_),
      extent_(o.extent_),
      hole_(o.hole_),
      ticket_(o.ticket_),
      entered_(std::exchange(o.entered_, false)),
      shown_(o.shown_),
      dirty_(o.dirty_),
      clean_(o.clean_),
      zeroed_(o.zeroed_),
      locked_(std::move(o.locked_)) {
  o.locked_.clear();
  o.kind_ = BlockKind::kBusy;
}

bool BlockRun::lock_first(Pgoff p, uint64_t want, Wait wait) {
  // A 2 MiB entry is tried for only where it will be of use: a run that takes all of it.
  unsigned order = unit().order();
  if (want >= kHugeBlocks && p == huge_head(p) && !i_->entries.peek(p).present()) order = kHugeOrder;
  LockedEntry e = i_->entries.lock(p, order, wait);
  if (!e) return false;
  locked_.push_back(e);
  return true;
}

// Finds out what backs `p`. False if an empty 2 MiB entry turns out not to fit what is there.
bool BlockRun::probe(Pgoff p, const Entry& e, uint64_t want) {
  const LockedEntry& first = locked_.front();
  if (e.present()) {
    kind_ = e.zero() ? BlockKind::kZero : e.unwritten() ? BlockKind::kUnwritten : BlockKind::kWritten;
    zeroed_ = true;
    extent_ = {p, e.pfn() + (p - first.head), std::min(want, end_of(first) - p), e.unwritten()};
    return true;
  }
  bool huge = order_of(first) != 0;
  const bool must = huge && !unit().single();  // there is no smaller entry
  auto found = v_->store().extents(i_->ino, {p, p + std::max(want, kHugeBlocks)}, 1);
  if (!found.empty() && found[0].pgoff == p) {
    const bool fits = found[0].count >= kHugeBlocks && found[0].pfn.aligned(kHugeBlocks);
    if (must && !fits)
      fail(EUCLEAN, "inode {}: page {} is in an extent that is not of whole units; see pmfs fsck", to_u64(i_->ino), p.v);
    if (huge && !must && (found[0].shared || !fits)) return false;
    kind_ = found[0].unwritten ? BlockKind::kUnwritten : found[0].shared ? BlockKind::kShared : BlockKind::kWritten;
    extent_ = found[0];
  } else {
    kind_ = BlockKind::kHole;
    extent_ = {p, Pfn(0), found.empty() ? std::max(want, kHugeBlocks) : found[0].pgoff - p, false};
    hole_ = {p, extent_.end()};
    if (huge && !must && extent_.count < kHugeBlocks) return false;
  }
  extent_.count = std::min(extent_.count, want);
  return true;
}

// Extends the run over the following pages while they are in the same state; waits for none of them.
void BlockRun::lock_rest(uint64_t want) {
  const Pgoff p = extent_.pgoff;
  const bool cached = zeroed_;  // the first entry was in the tree: it says nothing of what the extent map has behind it
  const Pgoff limit = p + (cached ? want : extent_.count);
  std::optional<FileExtent> known;  // from the extent map
  if (!cached && kind_ != BlockKind::kHole) known = extent_;
  Pgoff next = end_of(locked_.front());
  if (limit > next) locked_.reserve(std::min<uint64_t>(limit - next, kHugeBlocks) + 1);
  while (next < limit) {
    bool huge = next.aligned(kHugeBlocks) && limit - next >= kHugeBlocks && !i_->entries.peek(next).present();
    LockedEntry e = i_->entries.lock(next, huge ? kHugeOrder : unit().order(), Wait::kNoWait);
    if (!e) break;
    bool same;
    if (e.value.present()) {
      same = kind_ != BlockKind::kHole && (cached || kind_ == BlockKind::kWritten) &&
             e.value.zero() == (kind_ == BlockKind::kZero) && e.value.unwritten() == (kind_ == BlockKind::kUnwritten) &&
             e.value.pfn() == extent_.pfn_at(next);
    } else if (kind_ == BlockKind::kHole) {
      same = end_of(e) <= limit;
    } else if (kind_ == BlockKind::kZero || (cached && kind_ == BlockKind::kUnwritten)) {
      same = false;
    } else {
      if (!known || !known->range().contains(next)) known = v_->store().lookup_extent(i_->ino, next);
      same = known && known->unwritten == (kind_ == BlockKind::kUnwritten) &&
             known->shared == (kind_ == BlockKind::kShared) &&
             known->pfn_at(next) == extent_.pfn_at(next) && end_of(e) <= known->end() &&
             (order_of(e) == 0 || known->pfn_at(next).aligned(kHugeBlocks));
    }
    if (!same) {
      i_->entries.unlock(e, e.value);
      break;
    }
    locked_.push_back(e);
    next = end_of(e);
  }
  extent_.count = std::min(limit, next) - p;
}

// The extent map was asked when only the first entry was locked. A page behind it may have lost its block since, all of
// a punch having gone by before its entry was locked: asked again, now that nothing can change.
void BlockRun::confirm_rest() {
  if (zeroed_ || locked_.size() == 1) return;
  auto now = v_->store().extents(i_->ino, extent_.range(), 1);
  uint64_t good = end_of(locked_.front()) - extent_.pgoff;
  if (kind_ == BlockKind::kHole) {
    good = std::max(good, now.empty() ? extent_.count : now[0].pgoff - extent_.pgoff);
  } else if (!now.empty() && now[0].pgoff == extent_.pgoff && now[0].pfn == extent_.pfn) {
    const bool same = now[0].unwritten == (kind_ == BlockKind::kUnwritten) && now[0].shared == (kind_ == BlockKind::kShared);
    good = std::max(good, same ? now[0].count : 0);
  }
  if (good >= extent_.count) return;
  size_t keep = locked_.size();
  while (keep > 1 && end_of(locked_[keep - 1]) > extent_.pgoff + good) --keep;
  unlock_from(keep);
  extent_.count = std::min(extent_.count, end_of(locked_.back()) - extent_.pgoff);
}

// Unlocks what lies wholly behind the run and splits a 2 MiB entry of which the run is only a part, so that the
// entries held are exactly the run's pages and may change state. The run can get shorter.
void BlockRun::unlock_from(size_t index) {
  while (locked_.size() > index) {
    i_->entries.unlock(locked_.back(), locked_.back().value);
    locked_.pop_back();
  }
}

void BlockRun::shrink(uint64_t n) {
  extent_.count = std::min(extent_.count, unit().up(n));
  size_t keep = locked_.size();
  while (keep > 1 && locked_[keep - 1].head >= extent_.end()) --keep;
  unlock_from(keep);
  LockedEntry& last = locked_.back();
  bool aligned = kind_ == BlockKind::kHole || extent_.pfn_at(last.head).aligned(kHugeBlocks);
  if (order_of(last) == 0 || (last.head >= extent_.pgoff && end_of(last) <= extent_.end() && aligned)) return;
  if (locked_.size() > 1) {  // a partly covered last one: leave it out
    extent_.count = last.head - extent_.pgoff;
    unlock_from(locked_.size() - 1);
    return;
  }
  last = i_->entries.split(last, extent_.pgoff);
  while (end_of(locked_.back()) < extent_.end()) {
    LockedEntry e = i_->entries.lock(end_of(locked_.back()), 0, Wait::kNoWait);
    if (!e) break;
    bool same = e.value.present() == locked_.front().value.present() && e.value.flags() == locked_.front().value.flags();
    if (!same) {
      i_->entries.unlock(e, e.value);
      break;
    }
    locked_.push_back(e);
  }
  extent_.count = std::min(extent_.end(), end_of(locked_.back())) - extent_.pgoff;
}

void BlockRun::allocate(uint64_t n) {
  const Pgoff p = extent_.pgoff;
  n = std::min(unit().up(n), extent_.count);
  // The hole around p, back to the start of its 2 MiB window, so that windows are reserved whole.
  PageRange hole = hole_;
  std::optional<FileExtent> before;
  Pgoff head = huge_head(p);
  if (p.v > 0) {
    Pgoff from = head < p ? head : head - 1;
    auto left = v_->store().extents(i_->ino, {from, p}, kHugeBlocks);
    if (!left.empty()) before = left.back();
    hole.first = std::max(head, before ? before->end() : Pgoff(0));
  }
  FileExtent taken = v_->take_blocks(*i_, p, n, hole, before);
  extent_ = taken;
  shrink(taken.count);
  if (extent_.count < taken.count)
    v_->store().unreserve({taken.pfn + extent_.count, taken.count - extent_.count});
  try {
    v_->region().make_zero(extent_.blocks());
  } catch (...) {
    v_->store().unreserve(extent_.blocks());
    kind_ = BlockKind::kHole;
    throw;
  }
  v_->region().hand_out(extent_.blocks());
  kind_ = BlockKind::kFresh;
  if (v_->owners_) v_->owners_->set(i_->ino, extent_, true);
}

void BlockRun::commit(std::optional<uint64_t> new_size) {
  if (kind_ == BlockKind::kWritten) return;
  if (kind_ == BlockKind::kShared) fail(EINVAL, "inode {}: shared blocks can't be committed; own() comes first", to_u64(i_->ino));
  shrink(extent_.count);
  extent_.unwritten = false;
  // Crash before the transaction: the blocks are free (kFresh, kZero) or still unwritten, nothing of this
  // happened. After: the file has them, zeros or data already durable in them.
  if (kind_ == BlockKind::kUnwritten)
    v_->store().mark_written(i_->ino, extent_.range(), new_size);
  else
    v_->store().commit_extent(i_->ino, extent_, new_size);
  if (kind_ == BlockKind::kZero) {
    i_->zero_blocks.fetch_sub(extent_.count);
    v_->counters().zero_blocks.sub(extent_.count);
    v_->counters().zero_commits.add(extent_.count);
  }
  kind_ = BlockKind::kWritten;
  if (v_->owners_) v_->owners_->set(i_->ino, extent_, false);
  i_->drop_zeros(extent_.range());  // before the pages are unlocked: nobody sees the data and then zeros
}

void BlockRun::preallocate(uint64_t n) {
  allocate(n);
  extent_.unwritten = true;
  // Crash before: free. After: the file's, unwritten, and they are zero.
  v_->store().commit_extent(i_->ino, extent_, std::nullopt);
  kind_ = BlockKind::kUnwritten;
  zeroed_ = true;
}

void BlockRun::own(uint64_t n) {
  if (kind_ != BlockKind::kShared) return;
  shrink(n);
  FileExtent mine = v_->own_blocks(*i_, extent_);
  shrink(mine.count);
  extent_ = mine;
  kind_ = BlockKind::kWritten;
}

void BlockRun::keep_zero() {
  if (kind_ != BlockKind::kFresh) return;
  kind_ = BlockKind::kZero;
  i_->zero_blocks.fetch_add(extent_.count);
  v_->counters().zero_blocks.add(extent_.count);
}

void BlockRun::zero_unwritten() {
  if (kind_ != BlockKind::kUnwritten || zeroed_) return;
  shrink(extent_.count);
  v_->region().make_zero(extent_.blocks());
  v_->region().hand_out(extent_.blocks());
  zeroed_ = true;
}

FileExtent BlockRun::visible(Pgoff p) const {
  Pgoff end = extent_.end();  // of single blocks it ends with the file already, where anybody cares
  if (!unit().single()) end = std::min(end, Pgoff(std::max(i_->size_pages(), p.v + 1)));
  return {p, extent_.pfn_at(p), end - p, extent_.unwritten, extent_.shared};
}

Unit BlockRun::unit() const { return v_->unit(); }

void BlockRun::mark_shown() { shown_ = true; }

void BlockRun::mark_dirty() { dirty_ = true; }

bool BlockRun::dirty() const {
  return std::any_of(locked_.begin(), locked_.end(), [](const LockedEntry& e) { return e.value.dirty(); });
}

void BlockRun::mark_clean() { clean_ = true; }

Entry BlockRun::value_for(const LockedEntry& e) const {
  uint64_t flags = e.value.flags();
  switch (kind_) {
    case BlockKind::kZero: flags |= Entry::kZero; break;
    case BlockKind::kUnwritten:
      if (!zeroed_) return e.value;
      flags |= Entry::kUnwritten;
      break;
    case BlockKind::kWritten: flags &= ~(Entry::kZero | Entry::kUnwritten); break;
    default: return e.value;
  }
  if (shown_) flags |= Entry::kShown;
  // A large entry of which the run is only a part stays what it was.
  if (clean_ && e.head >= extent_.pgoff && end_of(e) <= extent_.end()) flags &= ~Entry::kDirty;
  if (dirty_) flags |= Entry::kDirty;
  Pfn pfn = e.head >= extent_.pgoff ? extent_.pfn_at(e.head) : extent_.pfn - (extent_.pgoff - e.head);
  return Entry::make(pfn, order_of(e), flags);
}

void BlockRun::unlock_all() {
  for (auto& e : locked_) i_->entries.unlock(e, value_for(e));
  locked_.clear();
}

void BlockRun::leave() {
  if (std::exchange(entered_, false)) i_->exclusion->leave_fault(&ticket_);
}

BlockRun::~BlockRun() {
  if (locked_.empty()) {
    leave();
    return;
  }
  if (kind_ == BlockKind::kFresh) {
    // Given up: back as they came. A zap that fails leaves them reserved until the next mount.
    try {
      v_->region().zap(extent_.blocks());
      if (v_->owners_) v_->owners_->clear(extent_.blocks());
      v_->store().unreserve(extent_.blocks());
    } catch (const Error&) {
    }
  }
  unlock_all();
  leave();
}

}  // namespace pmfs
