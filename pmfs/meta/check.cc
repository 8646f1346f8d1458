// StoreImpl::check(): reads everything and believes nothing.
#include <sys/stat.h>

#include <map>

#include "pmfs/meta/checksum.h"
#include "pmfs/meta/directory.h"
#include "pmfs/meta/store_impl.h"
#include "pmfs/meta/superblock.h"
#include "pmfs/meta/xattrs.h"

namespace pmfs::meta {
namespace {

constexpr size_t kMostFindings = 1000;

class Bits {
 public:
  explicit Bits(uint64_t n) : word_((n + 63) / 64) {}
  bool test(uint64_t i) const { return (word_[i / 64] >> (i % 64) & 1) != 0; }
  bool test_and_set(uint64_t i) {
    bool was = test(i);
    word_[i / 64] |= uint64_t{1} << (i % 64);
    return was;
  }
  uint64_t word(size_t i) const { return i < word_.size() ? word_[i] : 0; }

 private:
  std::vector<uint64_t> word_;
};

}  // namespace

class Checker {
 public:
  explicit Checker(StoreImpl& s)
      : s_(s),
        m_(s.m_),
        blocks_(m_.root->sb.blocks),
        unit_(unit_of(m_.root->sb)),
        owned_(blocks_),
        refs_(s.inodes_.next()),
        subdirs_(refs_.size()),
        reached_(refs_.size()) {}

  std::vector<std::string> run() {  // meta mutex
    if (superblock_checksum(m_.root->sb) != m_.root->sb.checksum) add("superblock: checksum does not match");
    if (checksum_of(*m_.root) != m_.root->checksum) add("root object: checksum does not match");
    if (check_inode_table()) {
      check_free_inodes();
      for (uint64_t n = 1; n < refs_.size(); ++n) check_inode(n);
      check_links();
      check_tree();
      check_orphans();
    }
    check_quotas();
    check_deferred();
    check_shared();
    check_bitmap();
    check_ballast();
    SpareNames(m_).check(m_.root->sb.pool_bytes, &findings_);
    check_block_map();
    if (findings_.empty()) check_seals();
    return std::move(findings_);
  }

 private:
  template <class... A>
  void add(fmt::format_string<A...> f, A&&... a) {
    if (findings_.size() < kMostFindings) findings_.push_back(fmt::format(f, std::forward<A>(a)...));
  }
  bool inside(uint64_t off, uint64_t bytes) const {
    uint64_t pool = m_.root->sb.pool_bytes;
    return off != 0 && off % 8 == 0 && off < pool && bytes <= pool - off;
  }
  bool valid_ino(uint64_t n) const { return n > 0 && n < refs_.size() && s_.inodes_.slot(n) != nullptr; }

  bool check_inode_table() {
    for (uint64_t n = 0; n < refs_.size(); n += InodeChunk::kInodes) {
      if (page_inside(m_.root->inodes.top, n / InodeChunk::kInodes, 2)) continue;
      add("inode table: the page of inode {} is missing; names and extents can't be checked", n);
      return false;
    }
    return true;
  }
  bool page_inside(persistent_ptr<InodePage> page, uint64_t chunk, int level) const {
    if (!inside(page.off, sizeof(InodePage))) return false;
    auto down = m_.pop.direct(page)->down[(chunk >> (9 * level)) % InodePage::kFanout];
    return level > 0 ? page_inside(down, chunk, level - 1) : inside(down.off, sizeof(InodeChunk));
  }

  void check_free_inodes() {
    uint64_t free = 0, listed = 0;
    for (uint64_t n = 1; n < refs_.size(); ++n) free += s_.inodes_.slot(n)->state == InodeMedia::kFree;
    for (uint64_t n = m_.root->inodes.free; n != 0 && listed <= free; n = s_.inodes_.slot(n)->list_next) {
      if (!valid_ino(n) || s_.inodes_.slot(n)->state != InodeMedia::kFree) {
        add("inode {}: on the list of free inodes, but it is not a free one", n);
        return;
      }
      ++listed;
    }
    if (listed != free) add("inode table: {} inodes are free, {} are on the list", free, listed);
    uint64_t used = refs_.size() - 1 - free;
    uint64_t counted = m_.root->inodes.used;
    if (used != counted) add("inode table: {} inodes used, but {} counted", used, counted);
  }

  void own(Extent e, const std::string& who, bool shared) {
    if (e.count == 0 || e.first.v >= blocks_ || e.count > blocks_ - e.first.v) {
      add("{}: blocks {} to {} are outside of the region of {} blocks", who, e.first.v, e.first.v + e.count - 1,
          blocks_);
      return;
    }
    if (shared) {
      ++sharers_[e.first.v];
      --sharers_[e.end().v];
      return;
    }
    for (uint64_t b = e.first.v; b < e.end().v; ++b)
      if (owned_.test_and_set(b)) add("{}: block {} belongs to something else too", who, b);
  }

  void check_inode(uint64_t n) {
    InodeMedia* i = s_.inodes_.slot(n);
    std::string who = fmt::format("inode {}", n);
    if (checksum_of(*i) != i->checksum) add("{}: the checksum of its record does not match", who);
    if (i->ino != n) add("{}: its record is the one of inode {}", who, i->ino);
    if (i->state == InodeMedia::kFree) return;
    if (i->state > InodeMedia::kOrphan) add("{}: state {} is unknown", who, +i->state);
    if (!S_ISDIR(i->mode) && !S_ISREG(i->mode) && !S_ISLNK(i->mode)) {
      add("{}: mode {:o} is of no known type", who, i->mode);
    }
    Xattrs(m_, i).check(who, &findings_);
    if (S_ISLNK(i->mode) != bool(i->target) ||
        (S_ISLNK(i->mode) && (i->size == 0 || i->size > kMaxSymlink || !inside(i->target.off, i->size) ||
                              crc32c(m_.pop.direct(i->target)->bytes, i->size) != i->target_checksum))) {
      add("{}: the target of a symbolic link is damaged", who);
    }
    if (!BTree(m_.pop, &i->map, n).check(who, m_.root->sb.pool_bytes, &findings_)) return;
    if (S_ISDIR(i->mode))
      check_entries(n, i);
    else
      check_extents(n, i, who);
  }

  void check_extents(uint64_t n, InodeMedia* i, const std::string& who) {
    uint64_t blocks = 0;
    FileExtent prev;
    BTree(m_.pop, &i->map, n).visit(0, [&](const Record& r) {
      FileExtent e = extent_of(r);
      if (e.count == 0 || e.end() > kEndOfFile || e.end() < e.pgoff) {
        add("{}: extent at page {} of {} pages is impossible", who, e.pgoff.v, e.count);
        return true;
      }
      if (prev.count > 0 && prev.end() > e.pgoff) add("{}: extents overlap at page {}", who, e.pgoff.v);
      if (prev.count > 0 && prev.end() == e.pgoff && prev.pfn + prev.count == e.pfn && prev.unwritten == e.unwritten &&
          prev.shared == e.shared) {
        add("{}: extents at page {} should be one", who, e.pgoff.v);
      }
      if (!unit_.whole(e)) {
        add("{}: extent at page {} of {} pages from block {} is not of whole units of {}", who, e.pgoff.v, e.count, e.pfn.v, unit_.blocks());
      }
      if (e.unwritten && e.shared) add("{}: extent at page {} is unwritten and shared", who, e.pgoff.v);
      own(e.blocks(), who, e.shared);
      blocks += e.count;
      prev = e;
      return true;
    });
    if (blocks != i->blocks) add("{}: i_blocks is {}, the extents have {}", who, i->blocks, blocks);
    if (i->size > kMaxFileBytes) add("{}: size {} is impossible", who, i->size);
  }

  void check_entries(uint64_t n, InodeMedia* dir) {
    Directory d(m_, dir);
    if (dir->blocks != 0) add("inode {}: a directory with {} blocks", n, dir->blocks);
    BTree(m_.pop, &dir->map, n).visit(0, [&](const Record& r) {
      const Name* name = m_.pop.direct(persistent_ptr<Name>{r.a});
      if (!inside(r.a, sizeof(Name)) || !inside(r.a, offsetof(Name, bytes) + name->length) || name->length > kMaxName) {
        add("inode {}: the name of entry {:#x} is damaged", n, r.key);
        return true;
      }
      std::string text(reinterpret_cast<const char*>(name) + offsetof(Name, bytes), name->length);
      if (d.hash_of(text) != r.key / Directory::kSequence * Directory::kSequence) {
        add("inode {}: entry \"{}\" has the hash of another name", n, text);
      }
      if (!valid_ino(r.b) || s_.inodes_.slot(r.b)->state == InodeMedia::kFree) {
        add("inode {}: entry \"{}\" is for inode {}, which does not exist", n, text, r.b);
        return true;
      }
      ++refs_[r.b];
      const InodeMedia* target = s_.inodes_.slot(r.b);
      if (!S_ISDIR(target->mode)) return true;
      ++subdirs_[n];
      if (target->parent != n) add("inode {}: its parent is {}, but it is in directory {}", r.b, target->parent, n);
      return true;
    });
  }

  void check_links() {
    for (uint64_t n = 1; n < refs_.size(); ++n) {
      const InodeMedia* i = s_.inodes_.slot(n);
      if (i->state == InodeMedia::kFree) continue;
      bool dir = S_ISDIR(i->mode);
      uint64_t names = refs_[n] + (n == to_u64(kRootIno) ? 1 : 0);
      uint64_t nlink = dir && i->state == InodeMedia::kLive ? 2 + subdirs_[n] : names;
      if (i->nlink != nlink) add("inode {}: nlink is {}, should be {}", n, i->nlink, nlink);
      if (i->state == InodeMedia::kOrphan && names != 0) add("inode {}: an orphan with a name", n);
      if (i->state == InodeMedia::kLive && names == 0) add("inode {}: neither a name nor on the orphan list", n);
      if (dir && names > 1) add("inode {}: a directory with {} names", n, names);
    }
  }

  // From the root down: directories that are only reached from themselves stay unreached.
  void check_tree() {
    std::vector<uint64_t> todo{to_u64(kRootIno)};
    if (!valid_ino(to_u64(kRootIno)) || !S_ISDIR(s_.inodes_.slot(1)->mode)) {
      add("inode 1: the root directory is not a directory");
      return;
    }
    reached_.test_and_set(todo.back());
    std::vector<std::string> known;  // damage reported before
    while (!todo.empty()) {
      InodeMedia* dir = s_.inodes_.slot(todo.back());
      todo.pop_back();
      BTree tree(m_.pop, &dir->map, dir->ino);
      if (!tree.check("", m_.root->sb.pool_bytes, &known)) continue;
      tree.visit(0, [&](const Record& r) {
        if (valid_ino(r.b) && S_ISDIR(s_.inodes_.slot(r.b)->mode) && !reached_.test_and_set(r.b)) todo.push_back(r.b);
        return true;
      });
    }
    for (uint64_t n = 1; n < refs_.size(); ++n) {
      const InodeMedia* i = s_.inodes_.slot(n);
      if (i->state == InodeMedia::kLive && S_ISDIR(i->mode) && !reached_.test(n)) {
        add("inode {}: a directory that can't be reached from the root", n);
      }
    }
  }

  void check_orphans() {
    uint64_t marked = 0, listed = 0, prev = 0;
    for (uint64_t n = 1; n < refs_.size(); ++n) marked += s_.inodes_.slot(n)->state == InodeMedia::kOrphan;
    for (uint64_t n = m_.root->orphan_head; n != 0 && listed <= marked; n = s_.inodes_.slot(n)->list_next) {
      if (!valid_ino(n) || s_.inodes_.slot(n)->state != InodeMedia::kOrphan) {
        add("inode {}: on the orphan list, but it is not an orphan", n);
        return;
      }
      if (s_.inodes_.slot(n)->list_prev != prev) add("inode {}: orphan list: wrong predecessor", n);
      prev = n;
      ++listed;
    }
    if (listed != marked) add("orphan list: {} inodes are orphans, {} are on the list", marked, listed);
  }

  void check_quotas() NO_THREAD_SAFETY_ANALYSIS {  // the meta mutex is held by run()
    if (!s_.quotas_.check(&findings_)) return;
    for (const Quota& q : s_.quotas_.all()) {
      Quota sum = s_.usage(q.kind, q.id);
      if (sum.blocks == q.blocks && sum.inodes == q.inodes) continue;
      add("quota: {} {} has {} blocks and {} inodes, but {} and {} counted",
          q.kind == QuotaKind::kUser ? "user" : "project", q.id, sum.blocks, sum.inodes, q.blocks, q.inodes);
    }
  }

  void check_deferred() {
    uint64_t prev = 0, seen = 0, most = m_.root->sb.pool_bytes / 64;
    for (uint64_t off = m_.root->deferred_head.get().off; off != 0; ++seen) {
      const DeferredMedia* b = m_.pop.direct(persistent_ptr<DeferredMedia>{off});
      if (seen > most || !Deferred::plausible(m_, off)) {
        add("deferred-free list: record at {:#x} is damaged", off);
        return;
      }
      if (b->checksum != checksum_of(*b, off)) add("deferred-free list: record at {:#x}: checksum does not match", off);
      if (b->prev.off != prev) add("deferred-free list: record at {:#x} has a wrong predecessor", off);
      std::string who = fmt::format("deferred-free record {}", b->id);
      const DeferredEntry* entries = &b->entry[0];
      for (uint64_t k = 0; k < b->count; ++k) {
        if (entries[k].b != DeferredEntry::kSubtree) {
          own({Pfn(entries[k].a), entries[k].b & ~kSharedExtent}, who, (entries[k].b & kSharedExtent) != 0);
          continue;
        }
        persistent_ptr<Node> n{entries[k].a};
        if (!BTree::check_subtree(m_.pop, n, who, m_.root->sb.pool_bytes, &findings_)) continue;
        BTree::visit_subtree(m_.pop, n, [&](const Record& r) {
          own(extent_of(r).blocks(), who, extent_of(r).shared);
          return true;
        });
      }
      prev = off;
      off = b->next.off;
    }
  }

  // Every block has as many owners as its count says.
  void check_shared() {
    if (!s_.shared_.check(m_.root->sb.pool_bytes, &findings_)) return;
    using Runs = std::vector<std::pair<Extent, uint64_t>>;
    auto put = [](Runs& runs, Extent e, uint64_t owners) {
      if (owners < 2) return;
      if (!runs.empty() && runs.back().first.end() == e.first && runs.back().second == owners)
        runs.back().first.count += e.count;
      else
        runs.emplace_back(e, owners);
    };
    Runs found, counted;
    int64_t owners = 0;
    for (auto it = sharers_.begin(); it != sharers_.end(); ++it) {
      owners += it->second;
      auto next = std::next(it);
      if (owners == 0 || next == sharers_.end()) continue;
      const Extent e{Pfn(it->first), next->first - it->first};
      put(found, e, static_cast<uint64_t>(owners));
      for (uint64_t b = e.first.v; b < e.end().v; ++b)
        if (owned_.test_and_set(b)) add("block {}: shared, and something's own too", b);
    }
    s_.shared_.visit([&](Extent e, uint64_t n) { put(counted, e, n); });
    if (found == counted) return;
    size_t k = 0;
    while (k < found.size() && k < counted.size() && found[k] == counted[k]) ++k;
    const auto& [e, n] = k < found.size() ? found[k] : counted[k];
    add("shared blocks: near block {}: {} owners were found, but the counts differ", e.first.v, n);
  }

  void check_bitmap() {
    for (uint64_t g = 0; g < s_.bitmap_.groups(); ++g) {
      const uint64_t* words = s_.bitmap_.words(g);
      if (words != nullptr && !inside(m_.pop.pptr(words).off, sizeof(Bitmap))) {
        add("block group {}: its bitmap is missing", g);
        continue;
      }
      uint64_t used = 0;
      for (uint64_t w = 0; w < kGroupWords; ++w) {
        uint64_t media = words != nullptr ? words[w] : 0, owned = owned_.word(g * kGroupWords + w);
        used += static_cast<uint64_t>(__builtin_popcountll(media));
        for (uint64_t wrong = media ^ owned; wrong != 0; wrong &= wrong - 1) {
          uint64_t bit = static_cast<uint64_t>(__builtin_ctzll(wrong)), block = g * kGroupBlocks + w * 64 + bit;
          bool in_use = (media >> bit & 1) != 0;
          add("block {}: {} in the bitmap, but {}", block, in_use ? "used" : "free", in_use ? "nobody's" : "owned");
        }
      }
      uint64_t counted = s_.bitmap_.used(g);
      if (used != counted) add("block group {}: {} blocks used, but {} counted", g, used, counted);
    }
  }

  void check_ballast() {
    uint64_t n = 0;
    for (auto b = m_.root->ballast_head.get(); b && n <= Ballast::kFull; b = m_.pop.direct(b)->next, ++n) {
      if (inside(b.off, sizeof(BallastMedia))) continue;
      add("ballast: object at {:#x} is damaged", b.off);
      return;
    }
    if (n != m_.root->ballast_count) add("ballast: {} objects, but {} counted", n, m_.root->ballast_count.get());
  }

  // All is as its checksum says, and nothing contradicts anything. Still an object may be one that was valid earlier.
  void check_seals() {
    uint64_t sum = 0;
    auto tree = [&](const Tree& t) {
      if (t.root) sum += seals_below(t.root);
    };
    for (uint64_t n = 1; n < refs_.size(); ++n) {
      const InodeMedia* i = s_.inodes_.slot(n);
      sum += seal_weight(m_.pop.pptr(i).off, i->checksum);
      if (i->state == InodeMedia::kFree) continue;
      tree(i->map);
      tree(i->xattrs);
    }
    sum += SpareNames(m_).seals();
    tree(m_.root->shared);
    tree(m_.root->quotas);
    BTree(m_.pop, &m_.root->quotas, 0).visit(0, [&](const Record& r) {
      sum += seal_weight(r.a, m_.pop.direct(persistent_ptr<QuotaMedia>{r.a})->checksum);
      return true;
    });
    for (auto b = m_.root->deferred_head.get(); b; b = m_.pop.direct(b)->next) {
      const DeferredMedia* d = m_.pop.direct(b);
      sum += seal_weight(b.off, d->checksum);
      const DeferredEntry* entries = &d->entry[0];
      for (uint64_t k = 0; k < d->count; ++k)
        if (entries[k].b == DeferredEntry::kSubtree) sum += seals_below({entries[k].a});
    }
    if (sum != m_.root->seals)
      add("the sum of all checksums is not the root object's: something is as it was earlier, nobody can tell what");
  }
  uint64_t seals_below(persistent_ptr<Node> p) const {
    const Node* n = m_.pop.direct(p);
    uint64_t sum = seal_weight(p.off, n->checksum);
    for (size_t k = 0; n->level > 0 && k < n->count; ++k) sum += seals_below(n->branches[k].child);
    return sum;
  }

  // What the allocator believes, against the media.
  void check_block_map() {
    MutexLock a(s_.alloc_mu_);
    uint64_t free = 0;
    for (uint64_t g = 0; g < s_.bitmap_.groups(); ++g) {
      free += s_.map_.free_of(g);
      const uint64_t* busy = s_.map_.busy_words(g);
      if (busy == nullptr) {
        if (s_.map_.free_of(g) + s_.bitmap_.used(g) == s_.map_.size_of(g)) continue;
        add("block group {}: the allocator's free count is wrong", g);
        continue;
      }
      const uint64_t* reserved = s_.map_.reserved_words(g);
      const uint64_t* media = s_.bitmap_.words(g);
      uint64_t taken = 0;
      for (uint64_t w = 0; w < kGroupWords; ++w) {
        uint64_t used = media != nullptr ? media[w] : 0;
        taken += static_cast<uint64_t>(__builtin_popcountll(busy[w]));
        if (busy[w] != (used | reserved[w])) add("block group {}: the allocator is wrong about word {}", g, w);
        if ((used & reserved[w]) != 0) add("block group {}: blocks of word {} are used and reserved", g, w);
      }
      if (taken + s_.map_.free_of(g) != s_.map_.size_of(g)) {
        add("block group {}: the allocator's free count is wrong", g);
      }
    }
    if (free != s_.map_.free()) add("allocator: {} blocks are free, but {} counted", free, s_.map_.free());
  }

  StoreImpl& s_;
  Media& m_;
  const uint64_t blocks_;
  const Unit unit_;
  Bits owned_;
  std::vector<uint32_t> refs_, subdirs_;  // names of an inode, directories in a directory
  Bits reached_;
  std::map<uint64_t, int64_t> sharers_;  // block -> how many more owners from here on
  std::vector<std::string> findings_;
};

std::vector<std::string> StoreImpl::check() {
  ReaderLock l(meta_mu_);
  return Checker(*this).run();
}

}  // namespace pmfs::meta
