// What a manager counts, by name: for `counters`, `metrics` and `top`.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "pmfs/pmfs.hpp"

namespace pmfs::cli {

struct Figure {
  enum Kind { kTotal, kGauge };  // since the manager began, or now
  std::string_view name;         // as `pmfs counters` shows it
  Kind kind;
  std::string_view help;
  uint64_t value;
};

// Whoever may connect may ask. Throws Error.
std::vector<Figure> figures_of(const Volume& v);
uint64_t figure(const std::vector<Figure>& all, std::string_view name);  // 0: none of that name

}  // namespace pmfs::cli
