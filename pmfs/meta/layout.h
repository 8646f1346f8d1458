// What is on the media: every persistent struct of the metadata pool, and nothing else. docs/format.md is
// the prose. Little-endian; 8-byte aligned; offsets are from the start of the pool; 0 is "none".
#pragma once

#include <cstddef>
#include <cstdint>

#include "pmfs/meta/pool.h"

namespace pmfs::meta {

inline constexpr uint64_t kMagic = 0x4154454d53464d50;  // "PMFSMETA"
inline constexpr uint64_t kIncompatUnits = 1;           // superblock: unit_blocks is more than 1
inline constexpr uint64_t kKnownIncompat = kIncompatUnits;  // bits this code understands; any other: refused
inline constexpr uint64_t kKnownRo = 0;                 // any other: only a read-only mount would do; refused

inline constexpr uint64_t kGroupBlocks = 32768;  // blocks of a group = bits of one 4 KiB bitmap
inline constexpr uint64_t kGroupWords = kGroupBlocks / 64;
inline constexpr uint64_t kMaxBlocks = uint64_t{1} << 36;  // 256 TiB
inline constexpr size_t kNodeBytes = 1008;                 // with libpmemobj's 16-byte header: 1 KiB

// The first 256 bytes of the root object, fixed for every version: whoever reads a newer volume can still
// check the sum and name the version. Written by format, and by a grow (blocks); the sum covers all before it.
struct SuperblockMedia {
  static constexpr uint32_t kSparse = 1;  // geometry_flags
  uint64_t magic;
  uint32_t version;
  uint32_t root_bytes;
  uint64_t features_compat, features_ro, features_incompat;
  uint8_t uuid[16];
  uint64_t blocks;
  uint32_t region_kind;
  uint32_t geometry_flags;
  uint64_t pool_bytes;
  uint64_t hash_key[2];  // of directory name hashes; secret of the volume, so that collisions can't be made
  uint32_t hash_bits;    // of the hash are used: kHashBits, fewer only in tests of collisions
  uint32_t group_blocks;
  int64_t format_time_ns;
  uint32_t unit_blocks;  // with kIncompatUnits; else 0, and a unit is a block
  uint8_t reserved[136];
  uint32_t checksum;  // CRC-32C
};
static_assert(sizeof(SuperblockMedia) == 256 && offsetof(SuperblockMedia, checksum) == 252);

// --- B+tree, see btree.h
struct Node;

struct Record {  // of a leaf; what a and b are is the user's matter
  uint64_t key, a, b;
  bool operator==(const Record&) const = default;
};
struct Branch {  // of an inner node: keys of the subtree are >= key (the first branch: no lower bound)
  uint64_t key;
  persistent_ptr<Node> child;
};

struct Node {
  static constexpr uint64_t kType = 1;
  static constexpr uint32_t kMagicNode = 0x65726f42;
  static constexpr uint16_t kRecords = 41, kBranches = 62;
  static constexpr uint16_t kSmall = 4;  // records of the only leaf of a small tree
  uint32_t magic;
  uint16_t count;
  uint16_t capacity;
  uint16_t level;  // 0: leaf
  uint16_t pad;
  uint32_t checksum;  // checksum.h
  union {
    Record records[kRecords];
    Branch branches[kBranches];
  };
};
static_assert(sizeof(Node) == kNodeBytes && offsetof(Node, checksum) == 12 && offsetof(Node, records) == 16);
inline constexpr size_t kSmallLeafBytes = 16 + Node::kSmall * sizeof(Record);

struct Tree {
  persistent_ptr<Node> root;  // none: empty
  uint64_t count;             // records
};

// --- inodes
// Extent record: key pgoff, a pfn, b count | kUnwritten | kSharedExtent. Directory record: key hash and sequence number
// (directory.h), a offset of a Name, b ino.
inline constexpr uint64_t kUnwritten = uint64_t{1} << 63;
inline constexpr uint64_t kSharedExtent = uint64_t{1} << 62;  // other files may have the blocks too

struct Name {
  static constexpr uint64_t kType = 5;
  uint16_t length;
  char bytes[6];  // and more: length bytes
};
static_assert(sizeof(Name) == 8 && offsetof(Name, bytes) == 2);

// The place of a Name that is nobody's now, on the list of them: spare_names.h. Only of places of kBytes or more, and a Name that
// fits kBytes has as much.
struct SpareName {
  static constexpr uint64_t kType = Name::kType;
  static constexpr size_t kBytes = 112;  // with libpmemobj's header the 128 that it gives to anything smaller too
  persistent_ptr<SpareName> next;
  uint32_t checksum;  // checksum.h
  uint32_t pad;
};
static_assert(sizeof(SpareName) == 16 && sizeof(SpareName) <= SpareName::kBytes);

// The target of a symbolic link; its length is the inode's size.
struct SymlinkMedia {
  static constexpr uint64_t kType = 11;
  char bytes[8];  // and more
};

// One extended attribute: the name, then the value as far as it fits; the rest in pages.
struct XattrPage {
  static constexpr uint64_t kType = 13;
  static constexpr size_t kBytes = kPageBytes - 8;
  persistent_ptr<XattrPage> next;
  std::byte bytes[kBytes];
};
static_assert(sizeof(XattrPage) == kPageBytes);
struct XattrMedia {
  static constexpr uint64_t kType = 12;
  static constexpr size_t kBytes = kNodeBytes - 16;  // of name and value, here
  persistent_ptr<XattrPage> more;
  uint32_t value_bytes;  // all of it
  uint16_t name_bytes;
  uint16_t pad;
  std::byte bytes[8];  // and more
};
static_assert(sizeof(XattrMedia) == 24 && offsetof(XattrMedia, bytes) == 16);

struct InodeMedia {
  static constexpr uint32_t kFree = 0, kLive = 1, kOrphan = 2;
  // flags
  static constexpr uint32_t kProjectInherit = 1;  // of a directory: what is made in it gets its project
  // First cache line: what a data operation changes, one snapshot.
  uint64_t size, blocks;
  int64_t mtime_ns, ctime_ns;
  Tree map;  // extents of a file, entries of a directory
  uint64_t generation : 56;
  uint64_t state : 8;
  uint32_t nlink;
  uint32_t checksum;  // checksum.h
  // Second.
  uint32_t mode, uid, gid, flags;
  int64_t atime_ns, btime_ns;
  uint64_t parent;                // of a directory
  uint64_t list_next, list_prev;  // orphan list; list_next: of the free list too
  uint32_t project;               // whose quota it counts for; 0: none
  uint32_t xattr_list_bytes;      // names of the extended attributes, each with a NUL
  // Third.
  Tree xattrs;  // by hash of the name, as a directory: a offset of an XattrMedia, b its checksum << 32 | bytes of the value
  persistent_ptr<SymlinkMedia> target;
  uint64_t ino;              // its own number; 0: never used
  uint32_t target_checksum;  // of the target's bytes
  uint32_t pad;
  uint64_t reserved[11];
};
static_assert(sizeof(InodeMedia) == 256 && offsetof(InodeMedia, checksum) == 60 && offsetof(InodeMedia, mode) == 64 &&
              offsetof(InodeMedia, project) == 120 && offsetof(InodeMedia, xattrs) == 128 &&
              offsetof(InodeMedia, ino) == 152 && offsetof(InodeMedia, reserved) == 168);

// ino -> inode: three levels of pages of pointers, then a page of inodes; made when first needed.
struct InodeChunk {
  static constexpr uint64_t kType = 2;
  static constexpr uint64_t kInodes = 16;
  InodeMedia inode[kInodes];
};
struct InodePage {
  static constexpr uint64_t kType = 3;
  static constexpr uint64_t kFanout = 512;
  persistent_ptr<InodePage> down[kFanout];  // on the lowest level: of an InodeChunk
};
static_assert(sizeof(InodeChunk) == kPageBytes && sizeof(InodePage) == kPageBytes);
inline constexpr uint64_t kMaxInodes = InodeChunk::kInodes << 27;

struct InodeTableMedia {
  persistent_ptr<InodePage> top;
  p<uint64_t> next;  // inos from here on were never used
  p<uint64_t> free;  // head of the list of freed ones
  p<uint64_t> used;
};

// --- blocks
struct Bitmap {  // 1: owned by an extent, or deferred
  static constexpr uint64_t kType = 6;
  uint64_t word[kGroupWords];
};
static_assert(sizeof(Bitmap) == 4096);
struct GroupMedia {
  persistent_ptr<Bitmap> bitmap;  // made when the first block of the group is used; none: all free
  uint64_t used;
};
struct GroupTable {
  static constexpr uint64_t kType = 7;
  GroupMedia group[1];  // and more
};

// --- deferred-free list. The entries of one Removed fill one or more consecutive blocks of the same id.
struct DeferredEntry {
  static constexpr uint64_t kSubtree = uint64_t{1} << 63;
  uint64_t a;  // pfn, or offset of a Node whose records are all given back
  uint64_t b;  // count, with kSharedExtent if it is one owner's of several; or kSubtree
};
struct DeferredMedia {
  static constexpr uint64_t kType = 8;
  static constexpr uint64_t kEntries = (kNodeBytes - 40) / sizeof(DeferredEntry);
  uint64_t id;
  persistent_ptr<DeferredMedia> next, prev;
  uint64_t count;
  uint32_t capacity;
  uint32_t checksum;  // checksum.h
  DeferredEntry entry[1];  // capacity
};
static_assert(offsetof(DeferredMedia, entry) == 40);

// --- undo log of a short transaction: short_log.h. Entries, each from a cache line on.
struct ShortLogMedia {
  static constexpr size_t kBytes = 16 << 10;
  std::byte entries[kBytes];
};
struct ShortLogEntry {
  uint64_t off;       // in the pool
  uint64_t sequence;  // of the transaction
  uint32_t bytes;
  uint32_t checksum;  // mixed_sum() of the others and the data, with a seed of the volume's
  std::byte data[40];  // and more: what was at `off`
};
static_assert(sizeof(ShortLogEntry) == 64 && offsetof(ShortLogEntry, data) == 24);

// --- reserve for freeing on a full pool, see ballast.h
struct BallastMedia {
  static constexpr uint64_t kType = 9;
  persistent_ptr<BallastMedia> next;
  uint64_t pad[kNodeBytes / 8 - 1];
};
static_assert(sizeof(BallastMedia) == kNodeBytes);
struct LogMedia {
  static constexpr uint64_t kType = 10;
  uint64_t snapshots[(208 << 10) / 8], intents[(24 << 10) / 8];
  ShortLogMedia short_log;
};
static_assert(sizeof(LogMedia) == kLargeBytes);

// --- what a user or a project has, and may have; only of those that have a limit
struct QuotaMedia {
  static constexpr uint64_t kType = 14;
  uint64_t blocks, inodes;              // used
  uint64_t block_limit, inode_limit;    // 0: none
  uint32_t checksum, pad;               // checksum.h
};
static_assert(sizeof(QuotaMedia) == 40);

struct Root {
  SuperblockMedia sb;
  p<uint64_t> mount_epoch;
  p<uint64_t> clean;  // 1: the last manager unmounted cleanly
  InodeTableMedia inodes;
  p<uint64_t> orphan_head;
  p<uint64_t> deferred_next_id;
  p<persistent_ptr<DeferredMedia>> deferred_head;
  persistent_ptr<GroupTable> groups;
  uint64_t group_count;
  p<persistent_ptr<BallastMedia>> ballast_head;
  p<uint64_t> ballast_count;
  persistent_ptr<LogMedia> logs;
  Tree shared;  // blocks with more than one owner: key first block, a count, b owners
  Tree quotas;  // key: kind and id; a offset of a QuotaMedia
  p<uint64_t> growing_to;  // blocks: the region's file may be so long, but its last blocks are not the volume's yet; or 0
  persistent_ptr<SpareName> spare_names;
  uint64_t spare_name_count;
  uint64_t checksum;       // of all from mount_epoch on; the superblock has its own
  uint64_t seals;          // sum of seal_weight() of all that has a checksum and is in use: tells an old version of an object
  uint64_t commit_word;    // of the last short transaction that is over: ShortLog::word_of()
  uint64_t reserved[72];
};
static_assert(sizeof(Root) == 1024 && offsetof(Root, mount_epoch) == 256 && offsetof(Root, inodes) == 272 &&
              offsetof(Root, shared) == 368 && offsetof(Root, spare_names) == 408 && offsetof(Root, checksum) == 424 &&
              offsetof(Root, seals) == 432 && offsetof(Root, commit_word) == 440);

}  // namespace pmfs::meta
