// The extent map and the allocator against the plainest model there is: a map from page to block.
#include <map>
#include <random>
#include <set>
#include <thread>

#include "tests/meta/meta_fixture.h"

namespace pmfs::meta::test {
namespace {

struct Page {
  uint64_t pfn;
  bool unwritten;
  bool operator==(const Page&) const = default;
};
using Model = std::map<uint64_t, Page>;

class Run {
 public:
  explicit Run(uint32_t seed) : rng_(seed) {
    for (int i = 0; i < 3; ++i) files_.push_back({v_.file("f" + std::to_string(i)), {}});
  }

  void step() {
    auto& [ino, model] = files_[below(files_.size())];
    PageRange r = range();
    switch (below(9)) {
      case 0:
      case 1:
      case 2:
        return fill(ino, model, r, below(2) == 0);
      case 3:
        v_->mark_written(ino, r, std::nullopt);
        return flag(model, r, false);
      case 4:
        v_->mark_unwritten(ino, r);
        return flag(model, r, true);
      case 5:
        return remove(ino, model, below(10) == 0 ? kWholeFile : r);
      case 6:
        if (!pending_.empty()) {
          auto it = std::next(pending_.begin(), static_cast<ptrdiff_t>(below(pending_.size())));
          v_->finish_free(it->first);
          pending_.erase(it);
        }
        return;
      case 7:
        if (below(40) == 0) v_.reopen();
        return;
      default:
        return compare(ino, model, r);
    }
  }

  void verify() {
    uint64_t used = 0, deferred = 0;
    for (auto& [ino, model] : files_) {
      compare(ino, model, kWholeFile);
      REQUIRE(v_->getattr(ino).blocks == model.size());
      used += model.size();
    }
    for (auto& [id, blocks] : pending_) deferred += blocks.size();
    REQUIRE(v_->space().blocks_used == used);
    REQUIRE(v_->space().blocks_deferred == deferred);
    REQUIRE(v_->space().blocks_free == kBlocks - used - deferred);
    auto findings = v_->check();
    for (const auto& f : findings) UNSCOPED_INFO(f);
    REQUIRE(findings.empty());
  }

 private:
  static constexpr uint64_t kBlocks = 40'000, kPages = 4'000;

  uint64_t below(uint64_t n) { return std::uniform_int_distribution<uint64_t>(0, n - 1)(rng_); }
  PageRange range() {
    uint64_t first = below(kPages), n = below(3) == 0 ? below(400) : below(20);
    return pages(first, first + 1 + n);
  }

  // Blocks for the holes in `r`, in pieces: as large as there are, or page by page, all over the region.
  void fill(Ino ino, Model& model, PageRange r, bool unwritten) {
    bool scattered = below(3) == 0;
    for (uint64_t p = r.first.v; p < r.end.v;) {
      uint64_t n = 0;
      while (p + n < r.end.v && !model.contains(p + n)) ++n;
      if (n == 0) {
        ++p;
        continue;
      }
      if (v_->space().blocks_free == 0) return;
      // Next to the page before, as the placement would, or anywhere.
      uint64_t goal = below(kBlocks);
      if (scattered)
        n = 1;
      else if (auto it = model.find(p - 1); it != model.end())
        goal = it->second.pfn + 1;
      Extent e = v_->reserve(Pfn(goal), n, below(4) == 0 ? 16 : 1);
      REQUIRE(e.count >= 1);
      REQUIRE(e.count <= n);
      for (uint64_t b = e.first.v; b < e.end().v; ++b) REQUIRE(owned_.insert(b).second);  // nobody else's
      v_->commit_extent(ino, {Pgoff(p), e.first, e.count, unwritten}, std::nullopt);
      for (uint64_t i = 0; i < e.count; ++i) model[p + i] = {e.first.v + i, unwritten};
      p += e.count;
    }
  }

  static void flag(Model& model, PageRange r, bool unwritten) {
    for (auto it = model.lower_bound(r.first.v); it != model.end() && it->first < r.end.v; ++it)
      it->second.unwritten = unwritten;
  }

  void remove(Ino ino, Model& model, PageRange r) {
    Removed removed = v_->remove_extents(ino, r, std::nullopt);
    std::set<uint64_t> blocks;
    for (const Extent& e : removed.extents)
      for (uint64_t b = e.first.v; b < e.end().v; ++b) REQUIRE(blocks.insert(b).second);
    std::set<uint64_t> expected;
    auto first = model.lower_bound(r.first.v), last = model.lower_bound(r.end.v);
    for (auto it = first; it != last; ++it) expected.insert(it->second.pfn);
    model.erase(first, last);
    REQUIRE(blocks == expected);
    REQUIRE((removed.id == 0) == blocks.empty());
    if (removed.id == 0) return;
    for (uint64_t b : blocks) owned_.erase(b);
    pending_.emplace(removed.id, std::move(blocks));
  }

  void compare(Ino ino, const Model& model, PageRange r) {
    Model seen;
    Pgoff end = r.first;
    for (const FileExtent& e : v_->extents(ino, r, SIZE_MAX)) {
      REQUIRE(e.pgoff >= end);
      REQUIRE(e.end() <= r.end);
      end = e.end();
      for (uint64_t i = 0; i < e.count; ++i) seen[e.pgoff.v + i] = {e.pfn.v + i, e.unwritten};
    }
    REQUIRE(seen == Model(model.lower_bound(r.first.v), model.lower_bound(r.end.v)));
    uint64_t p = below(kPages);
    auto e = v_->lookup_extent(ino, Pgoff(p));
    auto it = model.find(p);
    REQUIRE(e.has_value() == (it != model.end()));
    if (e) REQUIRE(Page{e->pfn_at(Pgoff(p)).v, e->unwritten} == it->second);
  }

  Volume v_{kBlocks};
  std::mt19937 rng_;
  std::vector<std::pair<Ino, Model>> files_;
  std::map<uint64_t, std::set<uint64_t>> pending_;  // removed, not yet finished
  std::set<uint64_t> owned_;                        // by files
};

TEST_CASE("random operations agree with the model, and check() stays clean") {
  auto seed = GENERATE(range(1u, 9u));
  Run run(seed);
  for (int i = 0; i < 3000; ++i) {
    run.step();
    if (i % 100 == 99) run.verify();
  }
}

TEST_CASE("threads on files of their own never get each other's blocks") {
  Volume v(100'000, 64 << 20);
  std::vector<Ino> inos;
  for (int t = 0; t < 4; ++t) inos.push_back(v.file("f" + std::to_string(t)));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&v, ino = inos[static_cast<size_t>(t)], t] {
      std::mt19937 rng(static_cast<uint32_t>(t));
      for (int i = 0; i < 2000; ++i) {
        Pgoff p(rng() % 3000);
        if (auto e = v->lookup_extent(ino, p)) {
          if (auto r = v->remove_extents(ino, e->range(), std::nullopt); r.id != 0) v->finish_free(r.id);
          continue;
        }
        Extent e = v->reserve(Pfn(rng() % 100'000), 1, 1);
        v->commit_extent(ino, {p, e.first, 1, false}, std::nullopt);
      }
    });
  }
  for (auto& t : threads) t.join();
  uint64_t used = 0;
  for (Ino i : inos) used += v->getattr(i).blocks;
  CHECK(v->space().blocks_used == used);
}

}  // namespace
}  // namespace pmfs::meta::test
