// Who owns which block: no block twice, and the bitmap says the same.
#include <algorithm>

#include "pmfs/fsck/salvage_impl.h"

namespace pmfs::fsck {
namespace {

using namespace meta;

bool possible(const State& s, Extent e) {
  return e.count > 0 && e.first.v < s.blocks && e.count <= s.blocks - e.first.v;
}

bool by_block(const Owner& a, const Owner& b) {
  return a.blocks.first != b.blocks.first ? a.blocks.first < b.blocks.first : a.ino > b.ino;
}

// Of which `part` the first of `e` is: fn(part, who has it alone or nullptr). `alone`: sorted, without overlap.
template <class F>
void split_by(const std::vector<Owner>& alone, Extent e, F&& fn) {
  auto it = std::upper_bound(alone.begin(), alone.end(), e.first,
                             [](Pfn p, const Owner& o) { return p < o.blocks.end(); });
  for (Pfn at = e.first; at < e.end();) {
    const bool inside = it != alone.end() && it->blocks.first <= at;
    const Pfn end = std::min(e.end(), it == alone.end() ? e.end() : inside ? it->blocks.end() : it->blocks.first);
    fn(Extent{at, end - at}, inside ? &*it : nullptr);
    if (inside) ++it;
    at = end;
  }
}

// What is owned, sorted and without overlap. A block of which two files claim to be the owner stays with the first, the
// second gets a copy; so does who claims a share of it. One that the deferred-free list has too stays with the file.
class Settle {
 public:
  explicit Settle(State& s) : s_(s) {
    for (const auto& [n, i] : s.out.saved.inodes)
      for (const FileExtent& e : i.extents) s.owners.push_back({e.blocks(), n, e.pgoff, e.shared});
    std::stable_sort(s.owners.begin(), s.owners.end(), by_block);
  }

  std::vector<Extent> run() {
    for (const Owner& o : s_.owners)
      if (possible(s_, o.blocks) && !o.shared) claim(o);
    for (const Owner& o : s_.owners)
      if (possible(s_, o.blocks) && o.shared) share(o);
    std::vector<Extent> all;
    for (const Owner& o : alone_) all.push_back(o.blocks);
    for (const Owner& o : s_.sharers) all.push_back(o.blocks);
    return without_overlap(std::move(all));
  }

 private:
  static std::string name(uint64_t ino) { return ino == 0 ? "the free list" : fmt::format("inode {}", ino); }

  void conflict(const Owner& holder, const Owner& o, Extent part) {
    s_.add("block", o.ino, part.first.v, "blocks {} to {} belong to {} and to {}{}", part.first.v, part.end().v - 1,
           name(holder.ino), name(o.ino), o.ino != 0 ? ", which gets a copy" : "");
    if (o.ino != 0) s_.out.saved.clones.push_back({part, o.ino, o.pgoff + (part.first - o.blocks.first)});
  }

  void claim(const Owner& o) {
    const Pfn free_from = alone_.empty() ? Pfn(0) : alone_.back().blocks.end();
    const Pfn first = std::max(o.blocks.first, free_from);
    if (o.blocks.first < free_from)
      conflict(alone_.back(), o, {o.blocks.first, std::min(free_from - o.blocks.first, o.blocks.count)});
    if (first < o.blocks.end())
      alone_.push_back({{first, o.blocks.end() - first}, o.ino, o.pgoff + (first - o.blocks.first)});
  }

  void share(const Owner& o) {
    split_by(alone_, o.blocks, [&](Extent part, const Owner* holder) {
      if (holder != nullptr) return conflict(*holder, o, part);
      s_.sharers.push_back({part, o.ino, o.pgoff + (part.first - o.blocks.first), true});
    });
  }

  static std::vector<Extent> without_overlap(std::vector<Extent> all) {
    std::sort(all.begin(), all.end(), [](Extent a, Extent b) { return a.first < b.first; });
    std::vector<Extent> out;
    for (Extent e : all) {
      const Pfn first = out.empty() ? e.first : std::max(e.first, out.back().end());
      if (first < e.end()) out.push_back({first, e.end() - first});
    }
    return out;
  }

  State& s_;
  std::vector<Owner> alone_;
};

class BitmapCheck {
 public:
  BitmapCheck(State& s, const std::vector<Extent>& owned) : s_(s), owned_(owned) {}

  void run() {
    const Root& root = s_.pool.root();
    const uint64_t groups = (s_.blocks + kGroupBlocks - 1) / kGroupBlocks;
    if (root.group_count != groups)
      s_.add("block groups", 0, std::nullopt, "there are {}, but {} counted", groups, root.group_count);
    const GroupMedia* table = s_.object<GroupMedia>(root.groups.off, groups * sizeof(GroupMedia));
    if (table == nullptr) {
      s_.add("block groups", 0, std::nullopt, "their table is missing");
      return;
    }
    for (uint64_t g = 0; g < groups; ++g) {
      group(g, table[g]);
      if (s_.progress) s_.progress("blocks", g + 1, groups);
    }
    flush();
  }

 private:
  void group(uint64_t g, const GroupMedia& media) {
    static const uint64_t kNone[kGroupWords] = {};
    const uint64_t* word = kNone;
    if (media.bitmap) {
      const Bitmap* b = s_.object<Bitmap>(media.bitmap.off);
      if (b == nullptr) {
        s_.add("block groups", 0, g * kGroupBlocks, "the bitmap of group {} is missing", g);
        return;
      }
      word = b->word;
    }
    uint64_t expected[kGroupWords] = {}, used = 0;
    for (; next_ < owned_.size() && owned_[next_].first.v < (g + 1) * kGroupBlocks; ++next_) {
      for_each_bit(owned_[next_], g, expected);
      if (owned_[next_].end().v > (g + 1) * kGroupBlocks) break;  // goes on in the next group
    }
    for (uint64_t w = 0; w < kGroupWords; ++w) {
      used += static_cast<uint64_t>(__builtin_popcountll(word[w]));
      for (uint64_t wrong = word[w] ^ expected[w]; wrong != 0; wrong &= wrong - 1) {
        auto bit = static_cast<uint64_t>(__builtin_ctzll(wrong));
        note(g * kGroupBlocks + w * 64 + bit, (word[w] >> bit & 1) != 0);
      }
    }
    if (used != media.used)
      s_.add("block groups", 0, g * kGroupBlocks, "group {}: {} blocks used, but {} counted", g, used, media.used);
  }

  static void for_each_bit(Extent e, uint64_t g, uint64_t* words) {
    uint64_t from = std::max(e.first.v, g * kGroupBlocks), to = std::min(e.end().v, (g + 1) * kGroupBlocks);
    for (uint64_t b = from; b < to; ++b) words[b % kGroupBlocks / 64] |= uint64_t{1} << (b % 64);
  }

  // One finding for a run of blocks.
  void note(uint64_t block, bool in_use) {
    if (count_ > 0 && block == first_ + count_ && in_use == in_use_) {
      ++count_;
      return;
    }
    flush();
    first_ = block;
    count_ = 1;
    in_use_ = in_use;
  }
  void flush() {
    if (count_ == 0) return;
    s_.add("bitmap", 0, first_, "blocks {} to {}: {}", first_, first_ + count_ - 1,
           in_use_ ? "used in the bitmap, but nobody's" : "free in the bitmap, but owned");
    count_ = 0;
  }

  State& s_;
  const std::vector<Extent>& owned_;
  size_t next_ = 0;
  uint64_t first_ = 0, count_ = 0;
  bool in_use_ = false;
};

}  // namespace

void check_blocks(State& s) {
  std::vector<Extent> owned = Settle(s).run();
  BitmapCheck(s, owned).run();
}

}  // namespace pmfs::fsck
