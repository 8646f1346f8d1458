// The table of schemes. A new one: a .cc file with its maker, the maker's line in all_schemes.h, a line here.
#include <array>

#include "pmfs/exclusion/all_schemes.h"

namespace pmfs::exclusion {
namespace {

constexpr std::array kSchemes{
    SchemeInfo{"range", "range_lock 2015, lock entries 2016-2020",
               "invalidates: fair range lock, then marks over the lock entries; faults: their own entry only", true,
               make_range},
    SchemeInfo{"entries", "Wilcox 2020, \"let hole punch insert lock entries\"",
               "no lock but the entries: an invalidate covers its range with marks, from the left", true, make_entries},
    SchemeInfo{"range-only", "Shutemov 2015, \"use range_lock instead of i_mmap_lock\"",
               "one range lock per inode: faults shared over their pages, invalidates exclusive", true,
               make_range_only},
    SchemeInfo{"invalidate", "Kara 2021, invalidate_lock",
               "one fair reader-writer lock per inode: faults shared, invalidates exclusive", true, make_invalidate},
    SchemeInfo{"mmap-lock", "DAX before 2015, i_mmap_lock", "one plain mutex per inode around fault and invalidate",
               true, make_mmap_lock},
    SchemeInfo{"seqtex", "Wilcox 2013",
               "faults sleep while an invalidate is in, then check a sequence number and retry", true, make_seqtex},
    SchemeInfo{"generation", "Kara 2013",
               "faults check a count of deallocations and undo what they have done if it moved", true,
               make_generation},
    SchemeInfo{"add-lock", "Overstreet 2019, page cache add lock",
               "two-way shared lock per inode, faults against invalidates; two files by wound/wait", true,
               make_add_lock},
    SchemeInfo{"unmap-only", "the gap shown in 2013 and 2015: \"fault in pfn which unmap already unmapped\"",
               "as range, but faults are let in again after the unmap, before the free", false, make_unmap_only},
    SchemeInfo{"isize-only", "\"please consider this scenario\", 2015",
               "faults look up under a shared inode lock and install after dropping it", false, make_isize_only},
    SchemeInfo{"none", "negative control", "faults and invalidates ignore each other", false, make_none},
};

}  // namespace

std::span<const SchemeInfo> schemes() { return kSchemes; }

const SchemeInfo* find_scheme(std::string_view name) {
  for (const SchemeInfo& s : kSchemes) {
    if (s.name == name) return &s;
  }
  return nullptr;
}

}  // namespace pmfs::exclusion
