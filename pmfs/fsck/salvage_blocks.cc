// Who owns which block: no block twice, and the bitmap says the same.
#include <algorithm>

#include "pmfs/fsck/salvage_impl.h"

namespace pmfs::fsck {
namespace {

using namespace meta;

// Sorted and without overlap: a block of which two files claim to be the owner stays with the first, the second gets a
// copy; one that the deferred-free list has too stays with the file.
std::vector<Extent> settle(State& s) {
  for (const auto& [n, i] : s.out.saved.inodes)
    for (const FileExtent& e : i.extents) s.owners.push_back({e.blocks(), n, e.pgoff, e.shared});
  std::stable_sort(s.owners.begin(), s.owners.end(), [](const Owner& a, const Owner& b) {
    return a.blocks.first != b.blocks.first ? a.blocks.first < b.blocks.first : a.ino > b.ino;
  });
  std::vector<Extent> owned;
  Owner holder{};
  for (const Owner& o : s.owners) {
    if (o.blocks.count == 0 || o.blocks.first.v >= s.blocks || o.blocks.count > s.blocks - o.blocks.first.v) continue;
    Pfn free_from = owned.empty() ? Pfn(0) : owned.back().end();
    if (o.blocks.first < free_from && !(o.shared && holder.shared)) {
      uint64_t n = std::min(free_from - o.blocks.first, o.blocks.count);
      auto name = [](uint64_t ino) { return ino == 0 ? std::string("the free list") : fmt::format("inode {}", ino); };
      s.add("block", o.ino, o.blocks.first.v, "blocks {} to {} belong to {} and to {}{}", o.blocks.first.v,
            o.blocks.first.v + n - 1, name(holder.ino), name(o.ino), o.ino != 0 ? ", which gets a copy" : "");
      if (o.ino != 0) s.out.saved.clones.push_back({{o.blocks.first, n}, o.ino, o.pgoff});
    }
    Pfn first = std::max(o.blocks.first, free_from);
    if (first >= o.blocks.end()) continue;
    owned.push_back({first, o.blocks.end() - first});
    holder = o;
  }
  return owned;
}

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
  std::vector<Extent> owned = settle(s);
  BitmapCheck(s, owned).run();
}

}  // namespace pmfs::fsck
