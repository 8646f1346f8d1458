// Mapping in acked mode: direct VMAs, which the client is asked to take away.
#include <algorithm>
#include <cerrno>

#include "pmfs/fault/mapping.h"

namespace pmfs::fault {

Mapping::Installed Mapping::map_direct(const BlockRun& run, uint64_t* seq) {
  const FileExtent& e = run.extent();  // whole units, as the mapping
  WriterLock l(vma_mutex_);
  if (gone()) return Installed::kGone;
  const VmaSegment& s = vmas_.at(e.pgoff);
  if (s.pending) return Installed::kAgent;  // when that is answered the thread faults again
  if (s.kind == VmaKind::kRegion && s.pfn_at(e.pgoff) == e.pfn) return Installed::kRetry;  // put in place meanwhile
  // Exactly the pages whose entries are locked: of any other a revoke may have gone by.
  PageRange r{e.pgoff, std::min(e.end(), pages.end)};
  for (Pgoff p = r.first + 1; p < r.end; p = vmas_.at(p).pages.end) {
    const VmaSegment& next = vmas_.at(p);
    if (next.pending || (next.kind == VmaKind::kRegion && next.pfn_at(p) == e.pfn_at(p))) {
      r.end = p;
      break;
    }
  }
  const uint64_t posted = command(r, VmaKind::kRegion, e.pfn);
  if (seq) *seq = posted;
  return Installed::kAgent;
}

Mapping::Outcome Mapping::show_zeros(PageRange r) {
  Outcome out;
  {
    ReaderLock l(vma_mutex_);
    if (gone()) {
      out.result = Installed::kGone;
      return out;
    }
    const VmaSegment& s = vmas_.at(r.first);
    if (s.pending) {
      out.result = Installed::kAgent;
      return out;
    }
    if (s.kind == VmaKind::kSentinel) {
      r.end = std::min({r.end, s.pages.end, r.first + Uffd::kMaxZeros / kBlockSize});
      inode().zeros_shown.store(true);
      sentinel_->shown(r);
      uint64_t mapped = 0;
      int err = uffd_->show_zeros(va_of(r.first), r.count() * kBlockSize, &mapped);
      // Neighbouring VMAs of one kind need not be one VMA for the kernel, and it fills no two at once.
      if (err == ENOENT && r.count() > 1) err = uffd_->show_zeros(va_of(r.first), kBlockSize, &mapped);
      if (err == EEXIST && mapped == 0) {
        // Shown in another mapping of this client; it could not be had here but writable. That one asks again.
        sentinel_->drop_zeros({r.first, r.first + 1});
        err = uffd_->show_zeros(va_of(r.first), kBlockSize, &mapped);
      }
      out.pages = mapped >> kBlockShift;
      if (mapped == 0 && err != 0) out.result = err == EAGAIN || err == EEXIST ? Installed::kRetry : Installed::kGone;
      return out;
    }
  }
  // A VMA that shows something else where there is a hole: SIGBUS for want of space, or unknown after a failure.
  WriterLock l(vma_mutex_);
  out.result = gone() ? Installed::kGone : Installed::kAgent;
  if (gone()) return out;
  const VmaSegment& s = vmas_.at(r.first);
  if (!s.pending && s.kind != VmaKind::kSentinel) command({r.first, r.first + 1}, VmaKind::kSentinel, Pfn(0));
  else if (!s.pending) out.result = Installed::kRetry;
  return out;
}

bool Mapping::revoke(PageRange r, const std::shared_ptr<const void>& keep) {
  r = {std::max(r.first, pages.first), std::min(r.end, pages.end)};
  if (r.empty() || !direct) return false;
  Parts parts;
  bool any = false;
  {
    WriterLock l(vma_mutex_);
    parts = parts_;
    if (!parts[0] && gone()) {
      if (parting_) parting_keeps_.push_back(keep);
      return parting_;
    }
    // A sentinel that is not answered yet may follow a VMA that is still there: asked once more.
    const auto empty_at = [this](Pgoff p) REQUIRES(vma_mutex_) {
      return vmas_.at(p).kind == VmaKind::kSentinel && !vmas_.at(p).pending;
    };
    for (Pgoff p = r.first; !parts[0] && p < r.end;) {
      const Pgoff from = p;
      const bool empty = empty_at(p);
      while (p < r.end && empty_at(p) == empty) p = std::min(vmas_.at(p).pages.end, r.end);
      if (empty) continue;
      command({from, p}, VmaKind::kSentinel, Pfn(0), keep);
      any = true;
    }
  }
  if (!parts[0]) return any;
  const bool left = parts[0]->revoke(r, keep);
  return parts[1]->revoke(r, keep) || left;
}

// What shows zeros there goes first, and then the mark of its protection, or it could not be poisoned: only an empty PTE can.
void Mapping::refuse_store(Pgoff p) {
  sentinel_->drop_zeros({p, p + 1});
  uffd_->unprotect(va_of(p), kBlockSize);
  if (uffd_->poison(va_of(p), kBlockSize) != 0) wake({p, p + 1});
}

void Mapping::part() {
  WriterLock l(vma_mutex_);
  if (gone()) return;
  parting_ = true;
  command(pages, VmaKind::kSentinel, Pfn(0), nullptr, true);
  gone_.store(true, std::memory_order_release);
}

std::vector<std::shared_ptr<const void>> Mapping::end_parting() {
  WriterLock l(vma_mutex_);
  parting_ = false;
  return std::move(parting_keeps_);
}

}  // namespace pmfs::fault
