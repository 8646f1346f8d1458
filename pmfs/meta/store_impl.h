// The Store of store.h: the parts put together under two locks.
//
// Not every member takes both: what only looks at metadata takes meta_mu_ shared; every transaction takes it
// alone; the block map has its own mutex so that a fault can reserve a block while a transaction runs.
#pragma once

#include "pmfs/base/mutex.h"
#include "pmfs/meta/ballast.h"
#include "pmfs/meta/block_map.h"
#include "pmfs/meta/deferred.h"
#include "pmfs/meta/inode_table.h"
#include "pmfs/meta/quotas.h"
#include "pmfs/meta/store.h"

namespace pmfs::meta {

class StoreImpl final : public Store {
 public:
  explicit StoreImpl(Media m);

  Superblock superblock() const override;
  Unit unit() const override { return unit_; }
  void mark_clean() override;
  void begin_grow(uint64_t blocks) override;
  void grow(uint64_t blocks) override;

  Ino lookup(Ino dir, std::string_view name) override;
  std::optional<Ino> find(Ino dir, std::string_view name) override;
  Ino create(Ino dir, std::string_view name, uint32_t mode, const Credentials& who) override;
  Ino mkdir(Ino dir, std::string_view name, uint32_t mode, const Credentials& who) override;
  Ino symlink(Ino dir, std::string_view name, std::string_view target, const Credentials& who) override;
  std::string readlink(Ino ino) override;
  void link(Ino ino, Ino dir, std::string_view name, const Credentials& who) override;
  Unlinked unlink(Ino dir, std::string_view name, const Credentials& who, const Claim& claim) override;
  Unlinked rmdir(Ino dir, std::string_view name, const Credentials& who, const Claim& claim) override;
  std::optional<Unlinked> rename(Ino sdir, std::string_view sname, Ino ddir, std::string_view dname, uint32_t flags,
                                 const Credentials& who, const Claim& claim) override;
  std::vector<DirEntry> list(Ino dir, uint64_t cookie, size_t max) override;
  Ino parent(Ino dir) override;

  InodeAttr getattr(Ino ino) override;
  void set_attr(Ino ino, const AttrChange& change, const Credentials& who) override;
  bool drop_privileges(Ino ino, bool set_ids) override;
  void set_times(Ino ino, int64_t atime_ns, int64_t mtime_ns) override;
  void grow_size(Ino ino, uint64_t size) override;
  std::vector<Ino> orphans() override;
  void free_inode(Ino ino) override;

  void set_xattr(Ino ino, std::string_view name, std::span<const std::byte> value, uint32_t flags,
                 const Credentials& who) override;
  std::vector<std::byte> get_xattr(Ino ino, std::string_view name, const Credentials& who) override;
  std::vector<std::string> list_xattrs(Ino ino, const Credentials& who) override;
  void remove_xattr(Ino ino, std::string_view name, const Credentials& who) override;

  void set_quota(QuotaKind kind, uint32_t id, uint64_t block_limit, uint64_t inode_limit) override;
  std::vector<Quota> quotas() override;
  void set_project(Ino ino, const Project& p, const Credentials& who) override;
  Project project(Ino ino) override;

  std::optional<FileExtent> lookup_extent(Ino ino, Pgoff p) override;
  std::vector<FileExtent> extents(Ino ino, PageRange r, size_t max) override;

  Extent reserve(Pfn goal, uint64_t count, uint64_t align) override;
  bool reserve_at(Extent e) override;
  void unreserve(Extent e) override;
  BlockState block_state(Pfn pfn) const override;

  void commit_extent(Ino ino, const FileExtent& e, std::optional<uint64_t> new_size) override;
  void mark_written(Ino ino, PageRange r, std::optional<uint64_t> new_size) override;
  void mark_unwritten(Ino ino, PageRange r) override;
  Removed remove_extents(Ino ino, PageRange r, std::optional<uint64_t> new_size) override;
  Removed replace_extent(Ino ino, const FileExtent& e) override;
  Removed collapse_range(Ino ino, PageRange gone, uint64_t new_size) override;
  void insert_range(Ino ino, Pgoff at, uint64_t pages, uint64_t new_size) override;
  Shared share_extents(Ino from, PageRange r, Ino to, Pgoff at, std::optional<uint64_t> new_size) override;
  bool unshare(Ino ino, PageRange r) override;
  std::vector<Extent> finish_free(uint64_t id) override;
  std::vector<Removed> deferred() override;

  Space space() const override;
  std::vector<Extent> free_extents(Pfn from, size_t max) const override;
  std::vector<std::string> check() override;

 private:
  // kGrow: refused before the room for freeing is touched. kNeeded: freeing, or what must work on a full
  // pool like it; may use the ballast.
  enum class Kind { kGrow, kNeeded };
  // One transaction. `f` may run twice, the first time undone: it must not change anything in DRAM.
  template <class F>
  void run(Kind kind, F&& f) REQUIRES(meta_mu_) {
    if (kind == Kind::kGrow && !ballast_.full()) {
      ballast_.refill();
      if (ballast_.low()) throw PoolFull();
    }
    auto body = [&] {
      if (m_.root->clean != 0) m_.root->clean = 0;
      f();
    };
    try {
      transaction::run(m_.pop, body, ballast_.logs());
    } catch (const PoolFull&) {
      // Not full yet if the heap only had to look again (see Ballast::reopen_runs).
      if (kind == Kind::kGrow) return transaction::run(m_.pop, body, ballast_.logs());
      ballast_.release();
      transaction::run(m_.pop, body, ballast_.reserve());
      ballast_.refill();
    }
  }

  InodeMedia* directory(Ino ino) const REQUIRES_SHARED(meta_mu_);  // ENOENT, ENOTDIR
  InodeMedia* file(Ino ino) const REQUIRES_SHARED(meta_mu_);       // ENOENT, EISDIR; EINVAL: a symbolic link
  Ino make(Ino dir, std::string_view name, uint32_t mode, const Credentials& who, std::string_view target = {});
  Unlinked remove(Ino dir, std::string_view name, bool want_dir, const Credentials& who, const Claim& claim);
  bool goes_at_once(Ino ino, InodeMedia* i, const Claim& claim) REQUIRES(meta_mu_);
  void check_not_above(Ino ino, Ino dir, std::string_view name) const REQUIRES_SHARED(meta_mu_);
  void drop_name(InodeMedia* parent, Ino ino, InodeMedia* i, bool free);  // in a transaction
  void free_now(Ino ino, InodeMedia* i);                                  // in a transaction
  void set_flag(Ino ino, PageRange r, bool unwritten, std::optional<uint64_t> new_size);

  Quota usage(QuotaKind kind, uint32_t id) const REQUIRES_SHARED(meta_mu_);

  friend class Checker;

  Media m_;
  Superblock sb_;  // but for the geometry constant
  const Unit unit_;
  mutable SharedMutex meta_mu_{LockRank::kMeta, "metadata"};
  mutable Mutex alloc_mu_{LockRank::kAllocator, "block map"};
  InodeTable inodes_;
  BlockBitmap bitmap_;
  Ballast ballast_;
  Deferred deferred_;
  Quotas quotas_;
  SharedBlocks shared_;
  mutable BlockMap map_ GUARDED_BY(alloc_mu_);
};

}  // namespace pmfs::meta
