#include "pmfs/fsck/rebuild.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "pmfs/meta/bitmap.h"
#include "pmfs/meta/directory.h"
#include "pmfs/meta/extent_map.h"
#include "pmfs/meta/hash.h"
#include "pmfs/meta/inode_table.h"
#include "pmfs/meta/quotas.h"
#include "pmfs/meta/shared_blocks.h"
#include "pmfs/meta/superblock.h"
#include "pmfs/meta/xattrs.h"

namespace pmfs::fsck {
namespace {

using namespace meta;

constexpr size_t kBatch = 24;  // things in one transaction: its undo log stays small

// Runs of blocks that no file has, in order.
class FreeRuns {
 public:
  explicit FreeRuns(const Saved& v) : blocks_(v.sb.blocks) {
    for (const auto& [n, i] : v.inodes)
      for (const FileExtent& e : i.extents) used_.push_back(e.blocks());
    std::sort(used_.begin(), used_.end(), [](Extent a, Extent b) { return a.first < b.first; });
  }
  Extent take(uint64_t most) {
    for (;;) {
      while (next_ < used_.size() && used_[next_].first.v <= at_) at_ = std::max(at_, used_[next_++].end().v);
      uint64_t end = next_ < used_.size() ? used_[next_].first.v : blocks_;
      if (at_ < end) {
        Extent e{Pfn(at_), std::min(most, end - at_)};
        at_ += e.count;
        return e;
      }
      if (next_ == used_.size()) fail(ENOSPC, "no block is free for a copy of a block with two owners");
    }
  }

 private:
  const uint64_t blocks_;
  std::vector<Extent> used_;
  size_t next_ = 0;
  uint64_t at_ = 0;
};

class Rebuilder {
 public:
  Rebuilder(const Saved& v, const std::filesystem::path& path, const Progress& progress)
      : v_(v), progress_(progress), m_(open_pool(path)), table_(m_), bitmap_(m_), shared_(m_) {}

  void run() {
    superblock();
    last_ = v_.inodes.rbegin()->first;
    for (uint64_t n = 1; n <= last_; n += kBatch) inodes(n, std::min(n + kBatch - 1, last_));
    for (const auto& [n, i] : v_.inodes) {
      names(n, i);
      extents(n, i);
      attributes(n, i);
      if (progress_) progress_("repair", n, last_);
    }
    quotas();
  }

 private:
  void superblock() {
    transaction::run(m_.pop, [&] {
      transaction::snapshot(&m_.root->sb);
      SuperblockMedia& sb = m_.root->sb;
      std::memcpy(sb.uuid, v_.sb.uuid, sizeof sb.uuid);
      sb.features_compat = v_.sb.features_compat;
      sb.features_ro = v_.sb.features_ro;
      sb.features_incompat = v_.sb.features_incompat;  // and unit_blocks: as the pool was made
      sb.format_time_ns = v_.sb.format_time_ns;
      sb.checksum = superblock_checksum(sb);
      m_.root->mount_epoch = v_.mount_epoch;
      m_.root->growing_to = v_.growing_to;
      m_.root->clean = 0;  // what is free may hold anything
    });
  }

  void inodes(uint64_t first, uint64_t last) {
    transaction::run(m_.pop, [&] {
      InodeTableMedia& t = m_.root->inodes;
      for (uint64_t n = first; n <= last; ++n) {
        table_.make_slot(n);
        t.next = n + 1;
        InodeMedia* i = table_.slot(n);
        snapshot_all(i);
        auto saved = v_.inodes.find(n);
        if (saved == v_.inodes.end()) {
          overwrite(i, {});
          i->ino = n;
          i->generation = (v_.mount_epoch & 0xffffff) << 32;  // larger than any that the number had
          i->list_next = t.free;
          t.free = n;
          continue;
        }
        overwrite(i, saved->second.media);
        i->ino = n;
        i->map = i->xattrs = Tree{};
        i->target = {};
        i->xattr_list_bytes = 0;
        i->blocks = 0;
        i->list_next = i->list_prev = 0;
        if (n != to_u64(kRootIno)) t.used += 1;
      }
    });
  }

  void names(uint64_t n, const SavedInode& saved) {
    for (auto it = saved.names.begin(); it != saved.names.end();) {
      transaction::run(m_.pop, [&, from = it] {
        it = from;  // it may run twice
        InodeMedia* i = table_.slot(n);
        snapshot_inode(i);
        for (size_t k = 0; k < kBatch && it != saved.names.end(); ++k, ++it)
          Directory(m_, i).insert(it->first, Ino{it->second});
      });
    }
  }

  void extents(uint64_t n, const SavedInode& saved) {
    for (auto it = saved.extents.begin(); it != saved.extents.end();) {
      transaction::run(m_.pop, [&, from = it] {
        it = from;  // it may run twice
        InodeMedia* i = table_.slot(n);
        snapshot_inode(i);
        for (size_t k = 0; k < kBatch && it != saved.extents.end(); ++k, ++it) {
          own(*it);
          ExtentMap(m_.pop, i).insert(*it);
        }
      });
    }
  }

  // The first owner sets the bit, each further one counts. What is not shared has one owner.
  void own(const FileExtent& e) {
    if (!e.shared) return bitmap_.set(e.blocks());
    for (Pfn at = e.pfn, end = e.blocks().end(); at < end;) {
      const bool known = in_use(at);
      uint64_t n = 1;
      while (at + n < end && in_use(at + n) == known) ++n;
      known ? shared_.add({at, n}) : bitmap_.set({at, n});
      at = at + n;
    }
  }

  bool in_use(Pfn p) const {
    const uint64_t* words = bitmap_.words(p.v / kGroupBlocks);
    return words != nullptr && (words[p.v % kGroupBlocks / 64] >> (p.v % 64) & 1) != 0;
  }

  void quotas() {
    for (Quota q : v_.quotas) {
      for (const auto& [n, i] : v_.inodes) {
        if ((q.kind == QuotaKind::kUser ? i.media.uid : i.media.project) != q.id) continue;
        ++q.inodes;
        for (const FileExtent& e : i.extents) q.blocks += e.count;
      }
      transaction::run(m_.pop, [&] { Quotas(m_).set(q); });
    }
  }

  void attributes(uint64_t n, const SavedInode& saved) {
    InodeMedia* i = table_.slot(n);
    for (const auto& x : saved.xattrs) {
      transaction::run(m_.pop, [&] {
        snapshot_all(i);
        Xattrs(m_, i).set(x.first, x.second);
      });
    }
    if (saved.target.empty()) return;
    transaction::run(m_.pop, [&] {
      snapshot_all(i);
      size_t bytes = std::max(saved.target.size(), sizeof(SymlinkMedia));
      i->target = make_persistent<SymlinkMedia>(bytes <= kNodeBytes ? bytes : kPageBytes);
      std::memcpy(m_.pop.direct(i->target)->bytes, saved.target.data(), saved.target.size());
      i->target_checksum = crc32c(saved.target.data(), saved.target.size());
    });
  }

  const Saved& v_;
  const Progress& progress_;
  Media m_;
  InodeTable table_;
  BlockBitmap bitmap_;
  SharedBlocks shared_;
  uint64_t last_ = 1;
};

}  // namespace

void copy_clones(Saved* v, RawRegion& region) {
  FreeRuns free(*v);
  for (const Clone& c : v->clones) {
    auto& extents = v->inodes.at(c.ino).extents;
    auto it = std::find_if(extents.begin(), extents.end(), [&](const FileExtent& e) {
      return e.range().contains(c.pgoff) && e.pfn_at(c.pgoff) == c.from.first && c.from.end() <= e.blocks().end();
    });
    if (it == extents.end()) fail(EUCLEAN, "inode {}: page {} has moved", c.ino, c.pgoff.v);
    const FileExtent whole = *it;
    it = extents.erase(it);
    if (whole.pgoff < c.pgoff)
      it = extents.insert(it, {whole.pgoff, whole.pfn, c.pgoff - whole.pgoff, whole.unwritten, whole.shared}) + 1;
    for (uint64_t done = 0; done < c.from.count;) {
      Extent to = free.take(c.from.count - done);
      if (!whole.unwritten) region.copy({c.from.first + done, to.count}, to.first);
      it = extents.insert(it, {c.pgoff + done, to.first, to.count, whole.unwritten}) + 1;
      done += to.count;
    }
    const Pgoff behind = c.pgoff + c.from.count;
    if (behind < whole.end())
      extents.insert(it, {behind, whole.pfn_at(behind), whole.end() - behind, whole.unwritten, whole.shared});
  }
  v->clones.clear();
  region.sync();
}

void rebuild(const Saved& v, const std::filesystem::path& path, const Progress& progress) {
  Geometry g{v.sb.blocks, v.sb.region_kind, (v.sb.geometry_flags & SuperblockMedia::kSparse) != 0, unit_of(v.sb)};
  format_pool(path, g, v.sb.pool_bytes, v.sb.hash_bits);
  try {
    Rebuilder(v, path, progress).run();
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
    throw;
  }
}

}  // namespace pmfs::fsck
