// Inode table, extents, directory entries, lists.
#include "pmfs/fsck/salvage.h"

#include <sys/stat.h>

#include <algorithm>

#include "pmfs/fsck/salvage_impl.h"
#include "pmfs/meta/ballast.h"
#include "pmfs/meta/checksum.h"
#include "pmfs/meta/directory.h"
#include "pmfs/meta/extent_map.h"
#include "pmfs/meta/hash.h"
#include "pmfs/meta/names.h"
#include "pmfs/meta/superblock.h"

namespace pmfs::fsck {
namespace {

using namespace meta;

constexpr uint64_t kRoot = 1;

bool legal(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.size() <= kMaxName && name.find('/') == name.npos &&
         name.find('\0') == name.npos;
}

void read_superblock(State& s) {
  const Root& root = s.pool.root();
  Saved& v = s.out.saved;
  v.sb = root.sb;
  v.mount_epoch = root.mount_epoch;
  v.growing_to = root.growing_to;
  s.hash_known = true;
  if (superblock_checksum(v.sb) != v.sb.checksum) {
    s.add("superblock", 0, std::nullopt, "its checksum does not match; made again from the sizes of the files");
    v.sb.version = kFormatVersion;
    // Two fields that say the same are believed: with a unit of one block the files would not fit such a device any more.
    const bool units = (v.sb.features_incompat & kIncompatUnits) != 0 && v.sb.unit_blocks > 1 && Unit::possible(v.sb.unit_blocks);
    v.sb.features_compat = v.sb.features_ro = 0;
    v.sb.features_incompat = units ? kIncompatUnits : 0;
    if (!units) v.sb.unit_blocks = 0;
    v.sb.blocks = unit_of(v.sb).down(s.data_blocks);
    v.sb.region_kind = static_cast<uint32_t>(s.region.kind());
    if (s.region.uuid()) std::copy(s.region.uuid()->begin(), s.region.uuid()->end(), v.sb.uuid);
    v.sb.pool_bytes = s.pool.bytes();
    v.sb.hash_bits = kHashBits;
    v.sb.group_blocks = kGroupBlocks;
    s.hash_known = false;  // a new key will do: names are inserted again
  }
  if (checksum_of(root) != root.checksum)
    s.add("superblock", 0, std::nullopt, "the checksum of the root object does not match");
  s.blocks = v.sb.blocks;
  s.used.emplace(s.pool.root_offset(), sizeof(Root));
  if (v.sb.pool_bytes != s.pool.bytes()) {
    s.add("pool", 0, std::nullopt, "the pool has {} bytes, it should have {}", s.pool.bytes(), v.sb.pool_bytes);
  }
  if (s.data_blocks < s.blocks) {
    s.add("region", 0, s.data_blocks,
          "the region has {} blocks, it should have {}: what was in the others is lost, and reads as zero",
          s.data_blocks, s.blocks);
    ++v.lost;
  } else if (s.region.kind() != RegionKind::kDevdax && s.data_blocks > s.blocks && s.data_blocks > v.growing_to) {
    s.add("region", 0, s.data_blocks, "the region has {} blocks, the superblock, an older one, says {}; all are the volume's",
          s.data_blocks, s.blocks);
    s.blocks = v.sb.blocks = unit_of(v.sb).down(s.data_blocks);
  }
}

void read_extents(State& s, uint64_t n, SavedInode& i) {
  std::vector<FileExtent> all;
  read_tree(s, i.media.map, n, [&](const Record& r) {
    FileExtent e = extent_of(r);
    bool possible = e.count > 0 && e.pgoff < kEndOfFile && e.count <= kEndOfFile - e.pgoff;
    const bool whole = unit_of(s.out.saved.sb).whole(e);
    if (!possible || !whole || e.pfn.v >= s.blocks || e.count > s.blocks - e.pfn.v) {
      s.add("extent", n, e.pfn.v, "extent at page {}: {} blocks from block {} are {}; it is lost", e.pgoff.v, e.count,
            e.pfn.v, !possible ? "impossible" : !whole ? "no whole units" : "outside of the region");
      ++s.out.saved.lost;
      return;
    }
    all.push_back(e);
  });
  std::stable_sort(all.begin(), all.end(), [](const FileExtent& a, const FileExtent& b) { return a.pgoff < b.pgoff; });
  uint64_t blocks = 0;
  for (FileExtent e : all) {
    if (!i.extents.empty() && i.extents.back().end() > e.pgoff) {
      s.add("extent", n, e.pfn.v, "extents overlap at page {}; the first is kept", e.pgoff.v);
      uint64_t cut = std::min(i.extents.back().end() - e.pgoff, e.count);
      e = {e.pgoff + cut, e.pfn + cut, e.count - cut, e.unwritten, e.shared};
      ++s.out.saved.lost;
      if (e.count == 0) continue;
    } else if (!i.extents.empty()) {
      const FileExtent& p = i.extents.back();
      if (p.end() == e.pgoff && p.pfn + p.count == e.pfn && p.unwritten == e.unwritten &&
          p.shared == e.shared)
        s.add("extent", n, e.pfn.v, "extents at page {} should be one", e.pgoff.v);
    }
    if (e.unwritten && e.shared) {
      s.add("extent", n, e.pfn.v, "extent at page {} is unwritten and shared; it keeps reading as zero", e.pgoff.v);
      e.shared = false;
    }
    if (e.pfn.v + e.count > s.data_blocks) {
      s.add("region", n, std::max(e.pfn.v, s.data_blocks),
            "pages {} to {} were in blocks that the region has no more; they read as zero",
            (e.pgoff + (std::max(e.pfn.v, s.data_blocks) - e.pfn.v)).v, e.end().v - 1);
      ++s.out.saved.lost;
    }
    i.extents.push_back(e);
    blocks += e.count;
  }
  if (blocks != i.media.blocks)
    s.add("i_blocks", n, std::nullopt, "i_blocks is {}, the extents have {}", i.media.blocks, blocks);
  if (i.media.size > kMaxFileBytes) {
    s.add("size", n, std::nullopt, "size {} is impossible; set to the end of its data", i.media.size);
    i.media.size = i.extents.empty() ? 0 : i.extents.back().end().bytes();
  }
}

void read_entries(State& s, uint64_t n, const SavedInode& dir) {
  if (dir.media.blocks != 0) s.add("i_blocks", n, std::nullopt, "a directory with {} blocks", dir.media.blocks);
  read_tree(s, dir.media.map, n, [&](const Record& r) {
    const Name* name = s.pool.at<Name>(r.a);
    size_t bytes = name != nullptr ? offsetof(Name, bytes) + name->length : 0;
    if (name == nullptr || name->length > kMaxName || s.object<Name>(r.a, bytes) == nullptr) {
      s.add("name", n, std::nullopt, "the name of entry {:#x}, for inode {}, is damaged and lost", r.key, r.b);
      ++s.out.saved.lost;
      return;
    }
    std::string text(reinterpret_cast<const char*>(name) + offsetof(Name, bytes), name->length);
    if (!legal(text)) {
      s.add("name", n, std::nullopt, "an entry for inode {} has an impossible name, which is lost", r.b);
      ++s.out.saved.lost;
      return;
    }
    uint64_t hash = std::max<uint64_t>(siphash(s.out.saved.sb.hash_key, text) >> (64 - s.out.saved.sb.hash_bits), 1);
    if (s.hash_known && hash != r.key / Directory::kSequence) {
      s.add("name", n, std::nullopt, "entry \"{}\" has the hash of another name; kept as it is", text);
    }
    s.entries.push_back({n, r.b, text});
  });
}

// `to` null: of an orphan, whose attributes nobody wants.
void read_xattrs(State& s, uint64_t n, const InodeMedia& m, SavedInode* to) {
  read_tree(s, m.xattrs, n, [&](const Record& r) {
    auto lost = [&] {
      s.add("attribute", n, std::nullopt, "the extended attribute of entry {:#x} is damaged and lost", r.key);
      ++s.out.saved.lost;
    };
    const XattrMedia* x = s.pool.at<XattrMedia>(r.a);
    if (x == nullptr || x->name_bytes == 0 || x->name_bytes > kMaxXattrName || x->value_bytes > kMaxXattrValue)
      return lost();
    size_t here = std::min<size_t>(x->value_bytes, XattrMedia::kBytes - x->name_bytes);
    size_t bytes = offsetof(XattrMedia, bytes) + x->name_bytes + here;
    if (s.object<XattrMedia>(r.a, std::max(bytes, sizeof(XattrMedia))) == nullptr) return lost();
    auto* text = reinterpret_cast<const std::byte*>(x) + offsetof(XattrMedia, bytes);
    std::string name(reinterpret_cast<const char*>(text), x->name_bytes);
    std::vector<std::byte> value(text + x->name_bytes, text + x->name_bytes + here);
    for (uint64_t off = x->more.off; off != 0;) {
      const XattrPage* page = s.object<XattrPage>(off);
      if (page == nullptr || value.size() >= x->value_bytes) return lost();
      value.insert(value.end(), page->bytes, page->bytes + std::min(x->value_bytes - value.size(), XattrPage::kBytes));
      off = page->next.off;
    }
    if (value.size() != x->value_bytes) return lost();
    try {
      check_xattr_name(name);
    } catch (const Error&) {  // no name could be: it was another
      return lost();
    }
    const uint32_t sum = crc32c(value.data(), value.size(), crc32c(name.data(), name.size()));
    if (r.b != (uint64_t{sum} << 32 | x->value_bytes)) {
      s.add("attribute", n, std::nullopt, "the checksum of attribute \"{}\" does not match; it is kept as it is", name);
    }
    if (to != nullptr) to->xattrs.emplace(std::move(name), std::move(value));
  });
}

void read_target(State& s, uint64_t n, const InodeMedia& m, SavedInode* to) {
  const bool possible = m.size > 0 && m.size <= kMaxSymlink;
  const SymlinkMedia* t =
      possible ? s.object<SymlinkMedia>(m.target.off, std::max(m.size, sizeof(SymlinkMedia))) : nullptr;
  std::string text = t != nullptr ? std::string(reinterpret_cast<const char*>(t), m.size) : "";
  if (to == nullptr) return;
  if (!text.empty() && text.find('\0') == text.npos && crc32c(text.data(), text.size()) != m.target_checksum)
    s.add("symbolic link", n, std::nullopt, "the checksum of its target does not match; it is kept as it is");
  if (text.empty() || text.find('\0') != text.npos) {
    s.add("symbolic link", n, std::nullopt, "its target is damaged; it leads to \"lost\" now");
    ++s.out.saved.lost;
    text = "lost";
  }
  to->target = text;
  to->media.size = text.size();
}

// Where `at` in the table; usually that is its number too.
void read_inode(State& s, uint64_t at, const InodeMedia& m) {
  const bool sound = checksum_of(m) == m.checksum;
  uint64_t n = at;
  if (at < s.pool.root().inodes.next && !sound)
    s.add("inode", at, std::nullopt, "the checksum of its record does not match; what can be read of it is kept");
  if (sound && m.ino != at && m.ino > 0 && m.ino < kMaxInodes) {
    s.add("inode", at, std::nullopt, "its record is the one of inode {}, and is taken for that", m.ino);
    n = m.ino;
  }
  bool typed = S_ISDIR(m.mode) || S_ISREG(m.mode) || S_ISLNK(m.mode);
  if (m.state == InodeMedia::kFree && (m.nlink == 0 || !typed)) return;
  for (auto [kind, id] : {std::pair{QuotaKind::kUser, m.uid}, {QuotaKind::kProject, m.project}}) {
    Quota& q = s.usage[{kind, id}];
    q.blocks += m.blocks;
    ++q.inodes;
  }
  if (m.state == InodeMedia::kOrphan && m.nlink == 0) {  // not damage: removed while open, or a crash in between
    read_xattrs(s, n, m, nullptr);
    if (S_ISLNK(m.mode)) read_target(s, n, m, nullptr);
    if (S_ISREG(m.mode))
      read_tree(s, m.map, n, [&](const Record& r) { s.owners.push_back({extent_of(r).blocks(), 0, Pgoff(0), extent_of(r).shared}); });
    return;
  }
  if (m.state != InodeMedia::kLive)
    s.add("inode", n, std::nullopt, "state {} with {} links; taken for a live one", +m.state, m.nlink);
  if (n >= s.pool.root().inodes.next)
    s.add("inode table", n, std::nullopt, "inode {} is behind the end of the table", n);
  if (s.out.saved.inodes.contains(n)) {
    s.add("inode", n, std::nullopt, "has two records; the one at the place of inode {} is lost", at);
    ++s.out.saved.lost;
    return;
  }
  SavedInode& i = s.out.saved.inodes[n];
  i.media = m;
  i.media.state = InodeMedia::kLive;
  if (!typed) {
    s.add("inode", n, std::nullopt, "mode {:o} is of no known type; taken for a file", m.mode);
    i.media.mode = S_IFREG | (m.mode & 0700);
  }
  read_xattrs(s, n, m, &i);
  if (S_ISLNK(i.media.mode))
    read_target(s, n, m, &i);
  else if (S_ISDIR(i.media.mode))
    read_entries(s, n, i);
  else
    read_extents(s, n, i);
}

void read_page(State& s, uint64_t off, uint64_t first_chunk, int level) {
  const InodePage* page = s.object<InodePage>(off);
  if (page == nullptr) {
    s.add("inode table", 0, std::nullopt,
          "the page of inodes {} and up, at {:#x} of the pool, is missing or there twice; they are lost",
          first_chunk * InodeChunk::kInodes, off);
    ++s.out.saved.lost;
    return;
  }
  for (uint64_t k = 0; k < InodePage::kFanout; ++k) {
    uint64_t down = page->down[k].off, chunk = first_chunk + (k << (9 * level));
    if (down == 0) continue;
    if (level > 0) {
      read_page(s, down, chunk, level - 1);
      continue;
    }
    const InodeChunk* inodes = s.object<InodeChunk>(down);
    if (inodes == nullptr) {
      s.add("inode table", 0, std::nullopt,
            "inodes {} to {}, at {:#x} of the pool, are missing or there twice; they are lost",
            chunk * InodeChunk::kInodes, chunk * InodeChunk::kInodes + InodeChunk::kInodes - 1, down);
      ++s.out.saved.lost;
      continue;
    }
    for (uint64_t i = 0; i < InodeChunk::kInodes; ++i)
      if (chunk + i > 0) read_inode(s, chunk * InodeChunk::kInodes + i, inodes->inode[i]);
    if (s.progress) s.progress("inodes", chunk * InodeChunk::kInodes, s.pool.root().inodes.next);
  }
}

// The state of inode n on the media, or kFree + 9 if there is none.
const InodeMedia* raw_inode(const State& s, uint64_t n) {
  uint64_t chunk = n / InodeChunk::kInodes, off = s.pool.root().inodes.top.off;
  for (int level = 2; level >= 0; --level) {
    const InodePage* p = s.pool.at<InodePage>(off);
    if (p == nullptr) return nullptr;
    off = p->down[(chunk >> (9 * level)) % InodePage::kFanout].off;
  }
  const InodeChunk* c = s.pool.at<InodeChunk>(off);
  return c != nullptr ? &c->inode[n % InodeChunk::kInodes] : nullptr;
}

void check_inode_lists(State& s) {
  const Root& root = s.pool.root();
  const uint64_t next = std::min<uint64_t>(root.inodes.next, s.pool.bytes() / sizeof(InodeMedia) + InodeChunk::kInodes);
  uint64_t free = 0, orphans = 0;
  for (uint64_t n = 1; n < next; ++n) {
    const InodeMedia* i = raw_inode(s, n);
    if (i == nullptr) {
      s.add("inode table", 0, std::nullopt, "inode {} is missing", n);
      return;
    }
    free += i->state == InodeMedia::kFree;
    orphans += i->state == InodeMedia::kOrphan;
  }
  auto walk = [&](uint64_t head, uint32_t state, uint64_t expected, const char* what, bool both_ways) {
    uint64_t listed = 0, prev = 0;
    for (uint64_t n = head; n != 0 && listed <= expected; ++listed) {
      const InodeMedia* i = n < next ? raw_inode(s, n) : nullptr;
      if (i == nullptr || i->state != state) {
        s.add(what, n, std::nullopt, "on the list, but it is no such inode");
        return;
      }
      if (both_ways && i->list_prev != prev) s.add(what, n, std::nullopt, "wrong predecessor on the list");
      prev = n;
      n = i->list_next;
    }
    if (listed != expected) s.add(what, 0, std::nullopt, "{} inodes are on the list, {} should be", listed, expected);
  };
  walk(root.inodes.free, InodeMedia::kFree, free, "free inodes", false);
  walk(root.orphan_head, InodeMedia::kOrphan, orphans, "orphans", true);
  if (root.inodes.used != next - 1 - free) {
    s.add("inode table", 0, std::nullopt, "{} inodes used, but {} counted", next - 1 - free, root.inodes.used.get());
  }
}

void read_deferred(State& s) {
  uint64_t prev = 0;
  for (uint64_t off = s.pool.root().deferred_head.get().off; off != 0;) {
    const DeferredMedia* b = s.pool.at<DeferredMedia>(off);
    bool ok =
        b != nullptr && b->count > 0 && b->count <= b->capacity && b->capacity <= DeferredMedia::kEntries &&
        b->id < s.pool.root().deferred_next_id &&
        s.object<DeferredMedia>(off, offsetof(DeferredMedia, entry) + b->capacity * sizeof(DeferredEntry)) != nullptr;
    if (!ok || b->prev.off != prev || b->checksum != checksum_of(*b, off)) {
      s.add("deferred-free list", 0, std::nullopt, "the record at {:#x} of the pool is damaged; its blocks are free",
            off);
      if (!ok) return;
    }
    const DeferredEntry* entries = &b->entry[0];
    for (uint64_t k = 0; k < b->count; ++k) {
      if (entries[k].b != DeferredEntry::kSubtree) {
        s.owners.push_back({{Pfn(entries[k].a), entries[k].b & ~kSharedExtent}, 0, Pgoff(0),
                            (entries[k].b & kSharedExtent) != 0});
        continue;
      }
      read_subtree(s, entries[k].a, 0, [&](const Record& r) {
        s.owners.push_back({extent_of(r).blocks(), 0, Pgoff(0), extent_of(r).shared});
      });
    }
    prev = off;
    off = b->next.off;
  }
}

void check_reserve(State& s) {
  const Root& root = s.pool.root();
  uint64_t n = 0;
  for (uint64_t off = root.ballast_head.get().off; off != 0; ++n) {
    const BallastMedia* b = s.object<BallastMedia>(off);
    if (b == nullptr) {
      s.add("ballast", 0, std::nullopt, "the object at {:#x} of the pool is damaged", off);
      return;
    }
    off = b->next.off;
  }
  if (n != root.ballast_count)
    s.add("ballast", 0, std::nullopt, "{} objects, but {} counted", n, root.ballast_count.get());
  uint64_t spare = 0;
  for (uint64_t off = root.spare_names.off; off != 0; ++spare) {
    const SpareName* place = s.object<SpareName>(off, SpareName::kBytes);
    if (place == nullptr || place->checksum != checksum_of(*place, off)) {
      s.add("spare names", 0, std::nullopt, "the place at {:#x} of the pool is damaged", off);
      return;
    }
    off = place->next.off;
  }
  if (spare != root.spare_name_count)
    s.add("spare names", 0, std::nullopt, "{} on the list, but {} counted", spare, root.spare_name_count);
  if (s.object<LogMedia>(root.logs.off) == nullptr)
    s.add("pool", 0, std::nullopt, "the reserved transaction logs are missing");
  if (root.clean > 1) s.add("superblock", 0, std::nullopt, "the clean flag is {}", root.clean.get());
}

}  // namespace

void read_all(State& s) {
  read_superblock(s);
  read_page(s, s.pool.root().inodes.top.off, 0, 2);
  if (!s.out.saved.inodes.contains(kRoot) || !S_ISDIR(s.out.saved.inodes[kRoot].media.mode)) {
    s.add("root directory", kRoot, std::nullopt, "it is missing; there is an empty one in its place");
    if (auto it = s.out.saved.inodes.find(kRoot); it != s.out.saved.inodes.end()) s.out.saved.inodes.erase(it);
    SavedInode& r = s.out.saved.inodes[kRoot];
    r.media.mode = S_IFDIR | 0755;
    r.media.state = InodeMedia::kLive;
    r.media.generation = 1;
    r.media.parent = kRoot;
    r.media.nlink = 2;
    ++s.out.saved.lost;
  }
  check_inode_lists(s);
  read_deferred(s);
  check_reserve(s);
}

// What libpmemobj calls allocated, against what is in use: memory in use that it calls free is given out again.
void check_objects(State& s) {
  if (!s.pool.opened()) return;
  for (const auto& [off, bytes] : s.used) {
    if (off == s.pool.root_offset()) continue;
    auto it = s.pool.objects().find(off);
    if (it == s.pool.objects().end())
      s.add("heap", 0, std::nullopt, "the object at {:#x} of the pool is in use, but not allocated", off);
    else if (it->second < bytes)
      s.add("heap", 0, std::nullopt, "the object at {:#x} of the pool has {} bytes, needs {}", off, it->second, bytes);
  }
  uint64_t lost = 0, lost_bytes = 0;
  for (const auto& [off, bytes] : s.pool.objects()) {
    if (s.used.contains(off)) continue;
    ++lost;
    lost_bytes += bytes;
  }
  if (lost > 0) s.add("heap", 0, std::nullopt, "{} objects of {} bytes are allocated and not in use", lost, lost_bytes);
}

Outcome salvage(const PoolView& pool, const RawRegion& region, const Progress& progress) {
  State s(pool, region, progress);
  if (!pool.opened()) s.add("pool", 0, std::nullopt, "libpmemobj can't open it: {}", pool.problem());
  read_all(s);
  resolve_links(s);
  check_blocks(s);
  check_counts(s);
  check_objects(s);
  if (s.out.findings.empty()) {
    for (const std::string& f : pool.check_findings()) s.add("store", 0, std::nullopt, "{}", f);
  }
  for (Finding& f : s.out.findings)
    if (auto it = s.paths.find(f.ino); it != s.paths.end()) f.path = it->second;
  return std::move(s.out);
}

}  // namespace pmfs::fsck
