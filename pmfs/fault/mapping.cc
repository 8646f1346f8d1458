#include "pmfs/fault/mapping.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"

namespace pmfs::fault {

namespace {
constexpr unsigned kMaxFailures = 3;
}

Mapping::Mapping(uint64_t id_, uint64_t va_, PageRange pages_, int prot, int32_t fd_, InodeRef inode,
                 std::shared_ptr<Sentinel> sentinel, std::shared_ptr<Uffd> uffd, Agent& agent, Origin origin)
    : id(id_),
      va(va_),
      pages(pages_),
      sentinel_fd(fd_),
      direct(agent.direct()),
      vma_unit(agent.vma_unit()),
      inode_(std::make_shared<const InodeRef>(std::move(inode))),
      sentinel_(std::move(sentinel)),
      uffd_(std::move(uffd)),
      agent_(agent),
      prot_(prot),
      vmas_(pages_) {
  if (direct) this->inode().direct_mappings.fetch_add(1);
  if (origin == Origin::kNew) return;
  vmas_.assign({pages, VmaKind::kUnknown, Pfn(0), true, 0});
  foreign_.store(true);
  this->inode().foreign_ptes.fetch_add(1);
}

Mapping::Mapping(uint64_t id_, PageRange part, const Mapping& of, const VmaTable& vmas, uint64_t last_command)
    : id(id_),
      va(of.va_of(part.first)),
      pages(part),
      sentinel_fd(of.sentinel_fd),
      direct(of.direct),
      vma_unit(of.vma_unit),
      inode_(of.inode_),
      sentinel_(of.sentinel_),
      uffd_(of.uffd_),
      agent_(of.agent_),
      prot_(of.prot()),
      vmas_(part, vmas),
      last_command_(last_command) {
  if (direct) inode().direct_mappings.fetch_add(1);
  if (!of.foreign_.load()) return;
  foreign_.store(true);
  inode().foreign_ptes.fetch_add(1);
}

Mapping::~Mapping() {
  if (direct) inode().direct_mappings.fetch_sub(1);
}

Mapping::Parts Mapping::split(Pgoff at, uint64_t left_id, uint64_t right_id) {
  Parts parts;
  {
    WriterLock l(vma_mutex_);
    parts = {std::shared_ptr<Mapping>(new Mapping(left_id, {pages.first, at}, *this, vmas_, last_command_)),
             std::shared_ptr<Mapping>(new Mapping(right_id, {at, pages.end}, *this, vmas_, last_command_))};
    // Holders before this one hands on to them: who asks the holders for write protection meets them either way.
    for (auto& p : parts) inode().add_pte_holder(p);
    parts_ = parts;
    if (foreign_.exchange(false)) inode().foreign_ptes.fetch_sub(1);
    gone_.store(true, std::memory_order_release);
  }
  return parts;
}

void Mapping::unmapped() {
  WriterLock l(vma_mutex_);
  gone_.store(true, std::memory_order_release);
}

void Mapping::put_back(std::shared_ptr<const void> keep) {
  WriterLock l(vma_mutex_);
  command(pages, VmaKind::kSentinel, Pfn(0), std::move(keep));
}

Mapping::Outcome Mapping::install(const BlockRun& run, Pgoff p, bool protect, bool upgrade, Region& region) {
  // Where VMAs are made of units so are PTEs, the end of the file or not.
  const Pgoff first = vma_unit.down(p);
  const FileExtent& all = run.extent();
  const FileExtent e = vma_unit.single() ? run.visible(p) : FileExtent{first, all.pfn_at(first), all.end() - first, all.unwritten};
  p = first;
  const uint64_t step = vma_unit.blocks();
  const Pgoff limit = std::min(e.end(), pages.end);
  Outcome out;
  const auto ends = [&out](Installed r) {
    out.result = r;
    return out;
  };
  {
    ReaderLock l(vma_mutex_);
    if (gone()) return ends(Installed::kGone);
    Pgoff end = p;
    while (end < limit) {
      const VmaSegment& s = vmas_.at(end);
      if (s.kind != VmaKind::kRegion || s.pending || s.pfn_at(end) != e.pfn_at(end)) break;
      end = std::min(s.pages.end, limit);
    }
    if (end > p) {
      bool present = false, populated = false;  // present: at the faulting page
      uint64_t skip = 1;
      for (Pgoff at = p; at < end;) {
        uint64_t mapped = 0;
        int err = uffd_->install(va_of(at), (end - at) * kBlockSize, protect, &mapped);
        at += mapped >> kBlockShift;
        out.pages += mapped >> kBlockShift;
        if (err == 0) break;
        if (err == EEXIST) {  // a PTE is there: install behind it, in longer and longer steps
          if (at == p) {
            present = true;
            at += step;
          } else {
            if (at == p + step) out.neighbour = true;
            at += skip * step;
            skip *= 2;
          }
        } else if (err == EFAULT && !populated) {  // the block has no page (the tmpfs was emptied under us)
          try {
            region.populate({e.pfn_at(at), end - at});
          } catch (const Error&) {
            return ends(at > p ? Installed::kDone : Installed::kNoSpace);
          }
          populated = true;
        } else if (err == EAGAIN) {
          if (mapped > 0) continue;  // stopped part-way: the next call says why
          if (at > p) break;         // the address space is changing; the faulting page has its PTE
          return ends(Installed::kRetry);
        } else {
          return ends(Installed::kGone);
        }
      }
      // Neighbours that keep their protection fault once more, and are upgraded then.
      if (upgrade || (present && !protect)) {
        int err = uffd_->unprotect(va_of(p), (end - p) * kBlockSize);
        if (err == EAGAIN) return ends(Installed::kRetry);
      }
      // EEXIST does not wake who faulted on a page that another install has filled meanwhile.
      if (present) uffd_->wake(va_of(p), kBlockSize);
      return out;
    }
    if (vmas_.at(p).pending) return ends(Installed::kAgent);
  }
  WriterLock l(vma_mutex_);
  if (gone()) return ends(Installed::kGone);
  const VmaSegment& s = vmas_.at(p);
  if (s.pending) return ends(Installed::kAgent);
  if (s.kind == VmaKind::kRegion && s.pfn_at(p) == e.pfn) return ends(Installed::kRetry);  // put in place meanwhile
  PageRange r = around_run({p, e.pfn, limit - p, false});
  if (vmas_.any_pending(r)) r = {p, p + 1};
  command(r, VmaKind::kRegion, r.first < p ? e.pfn - (p - r.first) : e.pfn);
  return ends(Installed::kAgent);
}

// PTEs are where VMAs of the region are, or where they are about to be replaced by others. The sentinel's VMAs are not
// registered for write protection and have no PTE.
bool Mapping::write_protect(PageRange r) {
  if (direct) return true;  // beside gated ones: a read-only client's
  r = {std::max(r.first, pages.first), std::min(r.end, pages.end)};
  Parts parts;
  {
    ReaderLock l(vma_mutex_);
    parts = parts_;
  }
  if (parts[0] && !r.empty()) return parts[0]->write_protect(r) && parts[1]->write_protect(r);
  ReaderLock l(vma_mutex_);
  for (Pgoff p = r.first; p < r.end;) {
    if (gone()) return !parts_[0];  // the client unmaps it; or it has just been split: once more
    const VmaSegment& s = vmas_.at(p);
    const Pgoff end = std::min(s.pages.end, r.end);
    if (s.kind != VmaKind::kSentinel || s.pending) {
      int err = uffd_->protect(va_of(p), (end - p) * kBlockSize);
      if (err == ENOENT) {  // old and new VMAs side by side: page by page
        for (err = 0; p < end && err == 0; p += vma_unit.blocks()) {
          err = uffd_->protect(va_of(p), vma_unit.bytes());
          if (err == ENOENT) err = 0;
        }
      }
      if (err == ESRCH) return true;  // the process is gone
      if (err != 0) return false;
    }
    p = end;
  }
  return true;
}

// A VMA may cover more than the blocks that are there now: their neighbours in the same 2 MiB window of the
// file are likely to get the neighbouring blocks, and a wrong guess is only a stale hint. Pages beyond the end of
// the file stay on the sentinel, which raises SIGBUS without asking anybody.
PageRange Mapping::around_run(const FileExtent& e) const {
  PageRange r{e.pgoff, e.end()};
  // What already has the right VMA needs no new one.
  for (Pgoff p = r.first + 1; p < r.end; p = vmas_.at(p).pages.end) {
    const VmaSegment& s = vmas_.at(p);
    if (s.pending || (s.kind == VmaKind::kRegion && s.pfn_at(p) == e.pfn_at(p))) {
      r.end = p;
      break;
    }
  }
  uint64_t window = r.first.v & ~(kHugeBlocks - 1);
  PageRange within{std::max(Pgoff(window), pages.first),
                   std::min({Pgoff((r.end.v + kHugeBlocks - 1) & ~(kHugeBlocks - 1)), pages.end,
                             Pgoff(std::max(inode().size_pages(), r.end.v))})};
  PageRange wide = vmas_.widen(r, within, VmaKind::kSentinel);
  uint64_t back = r.first - wide.first;
  if (e.pfn.v < back) wide.first = r.first - e.pfn.v;
  return wide;
}

// A unit of pages is one VMA, or a part of one, as a whole: what happens to a page of it happens to all.
uint64_t Mapping::command(PageRange r, VmaKind kind, Pfn pfn, std::shared_ptr<const void> keep, bool parting) {
  const PageRange asked = std::exchange(r, vma_unit.around(r));
  if (kind == VmaKind::kRegion) pfn = pfn - (asked.first - r.first);
  VmaCommand c;
  c.keep = std::move(keep);
  c.parting = parting;
  c.kind = kind;
  c.pages = r;
  c.va = va_of(r.first);
  c.bytes = r.count() * kBlockSize;
  c.offset = kind == VmaKind::kRegion ? pfn.bytes() : kind == VmaKind::kSentinel ? r.first.bytes() : 0;
  c.mapping = shared_from_this();
  c.number = ++last_command_;
  vmas_.assign({r, kind, pfn, true, c.number});
  return agent_.post(std::move(c));
}

void Mapping::beyond_eof(Pgoff p) {
  {
    WriterLock l(vma_mutex_);
    if (gone()) return wake({p, p + 1});
    const VmaSegment& s = vmas_.at(p);
    if (s.pending) return;
    if (s.kind != VmaKind::kSentinel) {
      PageRange r{p, s.pages.end};
      while (r.end < pages.end && vmas_.at(r.end).kind != VmaKind::kSentinel && !vmas_.at(r.end).pending)
        r.end = vmas_.at(r.end).pages.end;
      command(r, VmaKind::kSentinel, Pfn(0));
      return;
    }
  }
  wake({p, p + 1});  // faults again on the sentinel: SIGBUS, or an event if the file has grown
}

bool Mapping::no_page(Pgoff p) {
  {
    WriterLock l(vma_mutex_);
    if (gone()) return false;
    const VmaSegment& s = vmas_.at(p);
    if (s.pending) return true;
    if (s.kind != VmaKind::kSigbus) {
      command({p, p + 1}, VmaKind::kSigbus, Pfn(0));
      return true;
    }
  }
  return false;
}

uint64_t Mapping::map_ahead(const std::vector<FileExtent>& extents) {
  uint64_t last = 0;
  WriterLock l(vma_mutex_);
  for (const FileExtent& e : extents) {
    PageRange r{std::max(e.pgoff, pages.first), std::min(e.end(), pages.end)};
    if (!r.empty() && !vmas_.any_pending(r)) last = command(r, VmaKind::kRegion, e.pfn_at(r.first));
  }
  return last;
}

void Mapping::vma_done(const VmaCommand& c, int err) {
  PMFS_PAUSE_POINT("fault:vma_done");
  if (err != 0 && c.keep) agent_.refused(c.keep);
  Parts parts;
  std::vector<std::shared_ptr<const void>> parted;  // dropped outside the lock
  {
    WriterLock l(vma_mutex_);
    if (c.parting) {
      parting_ = false;
      parted.swap(parting_keeps_);
    }
    parts = parts_;
    Pfn pfn(c.kind == VmaKind::kRegion ? c.offset >> kBlockShift : 0);
    // A later command may have been given meanwhile (a revoke): the table goes on saying that.
    vmas_.executed({c.pages, err == 0 ? c.kind : VmaKind::kUnknown, pfn, false, c.number});
  }
  for (auto& part : parts) {
    if (!part) continue;
    VmaCommand theirs = c;
    theirs.pages = {std::max(c.pages.first, part->pages.first), std::min(c.pages.end, part->pages.end)};
    if (theirs.pages.empty()) continue;
    const uint64_t skipped = (theirs.pages.first - c.pages.first) * kBlockSize;
    theirs.va += skipped;
    if (c.kind != VmaKind::kSigbus) theirs.offset += skipped;
    theirs.bytes = theirs.pages.count() * kBlockSize;
    part->vma_done(theirs, err);
  }
  if (err != 0) {
    for (auto& k : parted) agent_.refused(std::move(k));
  }
  if (err == 0 && c.pages == pages && foreign_.exchange(false)) inode().foreign_ptes.fetch_sub(1);
  if (err == 0) {
    failures_.store(0);
  } else if (failures_.fetch_add(1) + 1 >= kMaxFailures && !gone()) {
    // The client can't place VMAs (its own limits: vm.max_map_count, address space): SIGBUS, not a loop.
    uffd_->poison(c.va, kBlockSize);
  }
  wake(c.pages);  // also if it is gone: it may have been split since the look, and the threads are the parts'
}

}  // namespace pmfs::fault
