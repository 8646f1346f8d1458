#include "tools/crash/cuts.h"

#include <algorithm>
#include <random>
#include <set>

namespace pmfs::crash {

namespace {

// What can be chosen one by one: a line, or all the old lines at once.
struct Units {
  std::vector<size_t> single;  // index of a pending line each
  std::vector<size_t> old;
  std::vector<uint8_t> versions;  // of each single line, then 1 if there are old ones

  explicit Units(const Step& s) {
    for (size_t i = 0; i < s.pending.size(); ++i) {
      (s.pending[i].old ? old : single).push_back(i);
      if (!s.pending[i].old)
        versions.push_back(static_cast<uint8_t>(std::min<size_t>(s.pending[i].versions.size(), 255)));
    }
    if (!old.empty()) versions.push_back(1);
  }
  Choice expand(const Step& s, const Choice& c) const {
    Choice out(s.pending.size(), 0);
    for (size_t i = 0; i < single.size(); ++i) out[single[i]] = c[i];
    for (size_t i : old)
      if (c.back() != 0) out[i] = static_cast<uint8_t>(std::min<size_t>(s.pending[i].versions.size(), 255));
    return out;
  }
};

}  // namespace

std::vector<Choice> choices(const Step& s, size_t most, uint64_t seed, bool* complete) {
  const Units units(s);
  const Choice& last = units.versions;
  const size_t n = last.size();
  std::vector<Choice> out;
  auto push = [&](const Choice& c) { out.push_back(units.expand(s, c)); };
  size_t all = 1;
  for (size_t i = 0; i < n && all <= most; ++i) all *= last[i] + 1u;
  *complete = all <= most;
  if (*complete) {
    Choice c(n, 0);
    for (size_t k = 0; k < all; ++k) {
      push(c);
      for (size_t i = 0; i < n && c[i]++ == last[i]; ++i) c[i] = 0;
    }
    return out;
  }
  std::set<Choice> seen;
  auto add = [&](const Choice& c) {
    if (out.size() < most && seen.insert(c).second) push(c);
  };
  Choice none(n, 0);
  add(none);
  add(last);
  std::mt19937_64 rng(seed);
  // Half of the room for the telling ones, in an order that favours none of the lines.
  std::vector<size_t> order(n);
  for (size_t i = 0; i < n; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), rng);
  for (size_t i : order) {
    if (out.size() >= most / 2) break;
    Choice alone = none, without = last;
    alone[i] = last[i];
    without[i] = 0;
    add(alone);
    add(without);
  }
  for (size_t tries = 0; out.size() < most && tries < most * 8; ++tries) {
    Choice c(n);
    for (size_t i = 0; i < n; ++i) c[i] = static_cast<uint8_t>(rng() % (last[i] + 1u));
    add(c);
  }
  return out;
}

}  // namespace pmfs::crash
