#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace pmfs::bench {

// The upper one of the middle two; 0 of nothing.
inline double median(std::vector<double> v) {
  if (v.empty()) return 0;
  const auto middle = v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2);
  std::nth_element(v.begin(), middle, v.end());
  return *middle;
}

}  // namespace pmfs::bench
