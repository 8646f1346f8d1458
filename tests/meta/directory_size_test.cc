// A directory of 10^6 entries: what a lookup visits, and that a listing neither repeats nor loses anything.
#include <cmath>
#include <random>

#include "pmfs/meta/directory.h"
#include "pmfs/meta/inode_table.h"
#include "pmfs/meta/superblock.h"
#include "tests/meta/meta_fixture.h"

namespace pmfs::meta::test {
namespace {

constexpr uint64_t kEntries = 1'000'000;

// Names only, all of inode 1: what an index costs does not depend on what it points to.
struct BigDirectory {
  TempDir dir;
  std::unique_ptr<Media> m;
  InodeMedia* root;
  BigDirectory() {
    format_pool(dir / "meta", {1000, 1, true}, 512 << 20, kHashBits);
    m = std::make_unique<Media>(open_pool(dir / "meta"));
    root = InodeTable(*m).get(kRootIno);
  }
  Directory index() { return Directory(*m, root); }
  template <class F>
  void change(F&& f) {
    transaction::run(m->pop, [&] {
      snapshot_hot(root);
      f();
    });
  }
};

std::string name(uint64_t i) { return "entry-" + std::to_string(i); }

TEST_CASE("in a directory of 10^6 entries a lookup visits a few nodes; listings are stable") {
  BigDirectory d;
  for (uint64_t from = 0; from < kEntries; from += 1000) {
    d.change([&] {
      for (uint64_t i = from; i < from + 1000; ++i) d.index().insert(name(i), kRootIno);
    });
  }
  std::mt19937_64 rng(5);
  uint64_t most = 0;
  for (int k = 0; k < 2000; ++k) {
    uint64_t before = BTree::nodes_visited();
    bool there = k % 2 == 0;
    std::string n = there ? name(rng() % kEntries) : "missing-" + std::to_string(k);
    REQUIRE(d.index().find(n).has_value() == there);
    most = std::max(most, BTree::nodes_visited() - before);
  }
  // Nodes are at least half full as long as nothing is removed: the height is at most log_20 of the leaves. A name
  // whose hash is behind the last of its leaf is looked for in the next one too.
  const auto height = static_cast<uint64_t>(std::ceil(std::log(kEntries) / std::log(Node::kRecords / 2)));
  CHECK(most <= 2 * height);
  CHECK(most >= 3);  // the count counts
  uint64_t before = BTree::nodes_visited(), listed = 0;
  d.index().visit(0, [&](uint64_t, std::string_view, Ino) { return ++listed < kEntries; });
  CHECK(listed == kEntries);
  CHECK(BTree::nodes_visited() - before > kEntries / Node::kRecords);  // the control: a walk over all

  // Listed in parts, with names taken away and made anew between them. What is there throughout comes once.
  std::vector<uint8_t> seen(kEntries);
  uint64_t cookie = 0, churn = 0;
  for (bool more = true; more;) {
    more = false;
    int part = 0;
    d.index().visit(cookie, [&](uint64_t key, std::string_view n, Ino) {
      REQUIRE(key > cookie);
      cookie = key;
      if (n.starts_with("entry-")) ++seen[std::stoull(std::string(n.substr(6)))];
      more = ++part == 20000;
      return !more;
    });
    d.change([&, from = churn] {  // may run twice
      for (churn = from; churn < from + 500; ++churn) {
        if (auto e = d.index().find(name(churn * 3 % kEntries))) d.index().erase(*e);  // multiples of 3 come and go
        d.index().insert("new-" + std::to_string(churn), kRootIno);
        if (churn % 5 == 0) d.index().insert(name(churn * 3 % kEntries), kRootIno);
      }
    });
  }
  uint64_t lost = 0, twice = 0;
  for (uint64_t i = 0; i < kEntries; ++i) {
    if (i % 3 != 0) lost += seen[i] == 0;
    if (i % 3 != 0) twice += seen[i] > 1;
  }
  CHECK(lost == 0);
  CHECK(twice == 0);
}

}  // namespace
}  // namespace pmfs::meta::test
