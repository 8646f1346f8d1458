// The table of schemes. A new one: a .cc file with its maker, the maker's line in all_schemes.h, a line here.
#include <array>

#include "pmfs/exclusion/all_schemes.h"

namespace pmfs::exclusion {
namespace {

constexpr std::array kSchemes{
    SchemeInfo{"range", "range_lock 2015, lock entries 2016-2020",
               "invalidates: fair range lock, then marks over the lock entries; faults: their own entry only", true,
               make_range},
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
