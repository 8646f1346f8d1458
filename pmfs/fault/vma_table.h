// VmaTable: what VMA a client has at each page of one mapping, as far as its agent has answered. VMAs are only
// hints; the PTE is the truth. But an install goes to whatever the VMA maps, so it is done only where this
// table is sure. Not thread-safe: guarded by Mapping::vma_mutex_.
#pragma once

#include <map>

#include "pmfs/base/types.h"

namespace pmfs::fault {

enum class VmaKind : uint8_t { kSentinel, kRegion, kSigbus, kUnknown };

struct VmaSegment {
  PageRange pages;
  VmaKind kind = VmaKind::kSentinel;
  Pfn pfn;              // kRegion: of the first page
  bool pending = false;  // a command is under way: the VMA is this or what it was before
  uint64_t command = 0;  // which: the last that was given for these pages; 0: none is under way
  Pfn pfn_at(Pgoff p) const { return pfn + (p - pages.first); }
};

class VmaTable {
 public:
  explicit VmaTable(PageRange all) : all_(all) { map_.emplace(all.first, VmaSegment{all, VmaKind::kSentinel, Pfn(0), false}); }

  VmaTable(PageRange part, const VmaTable& of);  // what `of` knows of `part`, which is inside it

  const VmaSegment& at(Pgoff p) const;  // p inside the mapping
  void assign(const VmaSegment& s);     // replaces what was there
  // Command number `s.command` has been executed and left `s`, where no later one is under way: what that one leaves is not known
  // yet, so those pages stay pending.
  void executed(VmaSegment s);
  // The largest range around `r` within `within` that is all of `kind` and not pending, `r` aside.
  PageRange widen(PageRange r, PageRange within, VmaKind kind) const;
  bool any_pending(PageRange r) const;
  size_t segments() const { return map_.size(); }
  PageRange all() const { return all_; }

 private:
  void split(Pgoff p);
  const PageRange all_;
  std::map<Pgoff, VmaSegment> map_;  // disjoint, covers all_
};

}  // namespace pmfs::fault
