#include "pmfs/meta/superblock.h"

#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <ctime>

#include "pmfs/meta/ballast.h"
#include "pmfs/meta/checksum.h"
#include "pmfs/meta/hash.h"
#include "pmfs/meta/inode_table.h"
#include "pmfs/meta/short_log.h"

namespace pmfs::meta {
namespace {

void random_bytes(void* p, size_t n) {
  if (getrandom(p, n, 0) != static_cast<ssize_t>(n)) fail(EIO, "no random bytes for the volume's uuid: {}", errno);
}

SuperblockMedia make_superblock(const Geometry& g, uint64_t pool_bytes, uint32_t hash_bits) {
  SuperblockMedia sb{};
  sb.magic = kMagic;
  sb.version = kFormatVersion;
  sb.root_bytes = sizeof(Root);
  random_bytes(sb.uuid, sizeof(sb.uuid));
  sb.uuid[6] = static_cast<uint8_t>((sb.uuid[6] & 0x0f) | 0x40);  // RFC 4122, version 4
  sb.uuid[8] = static_cast<uint8_t>((sb.uuid[8] & 0x3f) | 0x80);
  random_bytes(sb.hash_key, sizeof(sb.hash_key));
  sb.hash_bits = hash_bits;
  sb.blocks = g.blocks;
  sb.region_kind = g.region_kind;
  sb.geometry_flags = g.sparse ? SuperblockMedia::kSparse : 0;
  sb.pool_bytes = pool_bytes;
  sb.group_blocks = kGroupBlocks;
  sb.format_time_ns = now_ns();
  if (!g.unit.single()) {
    sb.features_incompat |= kIncompatUnits;
    sb.unit_blocks = static_cast<uint32_t>(g.unit.blocks());
  }
  sb.checksum = superblock_checksum(sb);
  return sb;
}

void seal_root(Media& m) {
  m.pop.sum_seals(&m.root->seals);
  m.pop.seal_always(&m.root->mount_epoch, offsetof(Root, commit_word) - offsetof(Root, mount_epoch),
                    [](const pool_base&, void* p) {
                      auto* root = reinterpret_cast<Root*>(static_cast<std::byte*>(p) - offsetof(Root, mount_epoch));
                      root->checksum = checksum_of(*root);
                    });
}

bool inside(uint64_t off, uint64_t bytes, uint64_t file_bytes) {
  return off != 0 && off < file_bytes && bytes <= file_bytes - off;
}

// What the last manager was in the middle of when it ended is undone. Root and superblock may be part of that, so nothing of
// them has been checked but what no transaction changes.
std::shared_ptr<ShortLog> recover_short_log(const std::string& path, const pool_base& pop, Root* root, uint64_t file_bytes) {
  if (root->sb.magic != kMagic || root->sb.version != kFormatVersion) return nullptr;  // validate() says more
  if (!inside(root->logs.off, sizeof(LogMedia), file_bytes))
    fail(EUCLEAN, "{}: the root object is damaged: its logs are not in the pool; see pmfs fsck", path);
  auto* base = reinterpret_cast<std::byte*>(root) - pop.pptr(root).off;
  auto log = std::make_shared<ShortLog>(pop.handle(), base, file_bytes, &pop.direct(root->logs)->short_log,
                                        &root->commit_word, static_cast<uint32_t>(root->sb.hash_key[0]));
  log->recover();
  return log;
}

void validate(const std::string& path, const pool_base& pop, const Root* root, uint64_t file_bytes) {
  const SuperblockMedia& sb = root->sb;
  if (sb.magic != kMagic) {
    fail(EUCLEAN, "{}: no pmfs superblock (magic {:#x}, not {:#x}): mkfs did not finish, or this is something else",
         path, sb.magic, kMagic);
  }
  if (uint32_t sum = superblock_checksum(sb); sum != sb.checksum) {
    fail(EUCLEAN, "{}: the superblock is damaged (checksum {:#010x}, not {:#010x})", path, sb.checksum, sum);
  }
  if (sb.version >= 1 && sb.version < kFormatVersion) {
    fail(ENOTSUP,
         "{}: the volume has format version {}, which was never released: copy its files out with the pmfs that made it, then "
         "make it anew with pmfs mkfs --force",
         path, sb.version);
  }
  if (sb.version > kFormatVersion || sb.version == 0) {
    fail(ENOTSUP, "{}: the volume has format version {}, this pmfs knows versions up to {}: use a newer pmfs", path,
         sb.version, kFormatVersion);
  }
  if (uint64_t unknown = sb.features_incompat & ~kKnownIncompat; unknown != 0) {
    fail(ENOTSUP, "{}: the volume needs features {:#x} unknown to this pmfs (format version {}): use a newer one", path,
         unknown, kFormatVersion);
  }
  if (uint64_t unknown = sb.features_ro & ~kKnownRo; unknown != 0) {
    fail(ENOTSUP, "{}: the volume has features {:#x} that this pmfs may not write to: use a newer one", path, unknown);
  }
  // A sum that is right over values that are not: somebody's own tool. Still no reason to crash.
  bool sane = sb.pool_bytes == file_bytes && sb.root_bytes == sizeof(Root) && sb.group_blocks == kGroupBlocks &&
              sb.blocks > 0 && sb.blocks <= kMaxBlocks && sb.hash_bits > 0 && sb.hash_bits <= kHashBits &&
              root->group_count == (sb.blocks + kGroupBlocks - 1) / kGroupBlocks &&
              inside(root->groups.off, root->group_count * sizeof(GroupMedia), file_bytes) &&
              inside(root->inodes.top.off, sizeof(InodePage), file_bytes) && root->inodes.next <= kMaxInodes &&
              inside(root->logs.off, sizeof(LogMedia), file_bytes) && root->clean <= 1;
  sane = sane && ((sb.features_incompat & kIncompatUnits) != 0 ? sb.unit_blocks > 1 && Unit::possible(sb.unit_blocks) : sb.unit_blocks == 0) &&
         unit_of(sb).whole(sb.blocks);
  if (checksum_of(*root) != root->checksum)
    fail(EUCLEAN, "{}: the root object is damaged (its checksum does not match); see pmfs fsck", path);
  if (!sane || pop.root_size() < sizeof(Root)) fail(EUCLEAN, "{}: the superblock or the root object is damaged", path);
}

}  // namespace

int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

std::string layout_name(uint64_t pool_bytes) { return fmt::format("pmfs-{}", pool_bytes); }

uint64_t default_pool_bytes(uint64_t blocks) {
  constexpr uint64_t kMin = 16 << 20, kMax = uint64_t{4} << 30;
  uint64_t bytes = std::clamp(blocks * (kBlockSize / 32), kMin, kMax);
  return (bytes + kBlockSize - 1) / kBlockSize * kBlockSize;
}

Unit unit_of(const SuperblockMedia& sb) { return Unit(sb.unit_blocks == 0 ? 1 : sb.unit_blocks); }

uint32_t superblock_checksum(const SuperblockMedia& sb) { return crc32c(&sb, offsetof(SuperblockMedia, checksum)); }

std::array<uint8_t, 16> format_pool(const std::filesystem::path& path, const Geometry& g, uint64_t pool_bytes, uint32_t hash_bits) {
  if (g.blocks == 0 || g.blocks > kMaxBlocks) {
    fail(EINVAL, "{}: a region of {} blocks: there must be 1 to {}", path.string(), g.blocks, kMaxBlocks);
  }
  if (!Unit::possible(g.unit.blocks()) || !g.unit.whole(g.blocks)) {
    fail(EINVAL, "{}: a region of {} blocks in units of {}: a unit has 1 block or {}, and the region is made of whole ones", path.string(),
         g.blocks, g.unit.blocks(), kHugeBlocks);
  }
  if (pool_bytes == 0) pool_bytes = default_pool_bytes(g.blocks);
  pool_bytes = pool_bytes / kBlockSize * kBlockSize;
  if (pool_bytes < PMEMOBJ_MIN_POOL) {
    fail(EINVAL, "{}: a metadata pool of {} bytes is too small: the least is {}", path.string(), pool_bytes,
         PMEMOBJ_MIN_POOL);
  }
  std::array<uint8_t, 16> uuid{};
  pool_base pop = pool_base::create(path, layout_name(pool_bytes), pool_bytes);
  try {
    Root* root = static_cast<Root*>(pop.root(sizeof(Root)));
    if (root == nullptr) throw PoolFull();
    Media m{std::move(pop), root};
    seal_root(m);
    // Crash before: a pool without the magic, which open refuses. After: an empty volume.
    transaction::run(m.pop, [&] {
      transaction::snapshot(root);
      root->group_count = (g.blocks + kGroupBlocks - 1) / kGroupBlocks;
      root->groups = make_persistent<GroupTable>(root->group_count * sizeof(GroupMedia));
      root->logs = make_persistent<LogMedia>();
      root->commit_word = ShortLog::word_of(0);
      root->deferred_next_id = 1;
      root->clean = 1;
      Ballast(m).make();
      InodeTable table(m);
      table.format();
      root->sb = make_superblock(g, pool_bytes, hash_bits);
      uuid = std::to_array(root->sb.uuid);
    });
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
    throw;
  }
  if (g.sparse) punch_zeros(path);
  return uuid;
}

Media open_pool(const std::filesystem::path& path) {
  struct stat st;
  if (stat(path.c_str(), &st) != 0) {
    int err = errno;
    fail(err, "{}: cannot open the metadata pool: {}", path.string(), std::strerror(err));
  }
  if (!S_ISREG(st.st_mode)) fail(EUCLEAN, "{}: not a pmfs metadata pool: not a regular file", path.string());
  auto bytes = static_cast<uint64_t>(st.st_size);
  pool_base pop = pool_base::open(path, layout_name(bytes));
  if (pop.root_size() < sizeof(Root)) fail(EUCLEAN, "{}: mkfs did not finish: the pool has no root", path.string());
  Root* root = static_cast<Root*>(pop.root(sizeof(Root)));
  if (root == nullptr) fail(EUCLEAN, "{}: the pool's root can't be read: {}", path.string(), pmemobj_errormsg());
  auto log = recover_short_log(path.string(), pop, root, bytes);
  validate(path.string(), pop, root, bytes);
  Media m{std::move(pop), root};
  m.pop.use_short_log(std::move(log));
  seal_root(m);
  return m;
}

}  // namespace pmfs::meta
