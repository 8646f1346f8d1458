// MountedVolume: the files of one mounted volume: region + metadata + the inodes in memory, and every operation on
// them that needs no client. One object per mounted volume; all members are thread-safe.
//
// No member waits for a client, but for wait_idle(). Members with `Wait` return EAGAIN (Error) under kNoWait instead of sleeping
// behind another operation, and then leave nothing behind.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "pmfs/base/stats.h"
#include "pmfs/base/unique_fd.h"
#include "pmfs/exclusion/scheme.h"
#include "pmfs/fs/client_locks.h"
#include "pmfs/fs/inode.h"
#include "pmfs/fs/inode_table.h"
#include "pmfs/fs/leases.h"
#include "pmfs/fs/owner_map.h"
#include "pmfs/fs/path_walk.h"
#include "pmfs/fs/quarantine.h"
#include "pmfs/meta/store.h"
#include "pmfs/region/region.h"
#include "pmfs/region/source.h"

namespace pmfs {

class Refill;

struct FormatOptions {
  uint64_t blocks = 0;
  bool sparse = false;  // don't reserve the region's memory now
  bool force = false;   // replace an existing volume
  std::filesystem::path device = {};  // devdax: where the region is; blocks 0 is then all of it. Else a file in the directory
  RegionProgress progress = {};
  uint64_t unit_blocks = 0;  // 1 or 512; 0: what the device's mappings are aligned to, else 1
};
struct Formatted {
  RegionSource source;
  uint64_t blocks = 0;
  Unit unit;
};
inline constexpr uint64_t kMinBlocks = 4096;  // 16 MiB
// Makes a volume in directory `dir` (created if absent): DIR/meta, DIR/data. What kind the region is the file system of `dir`
// decides, or the device. Throws EEXIST, EINVAL, ENOSPC, EBUSY, ENOTSUP: no region can be there. Returns what it is made of.
Formatted format_volume(const std::filesystem::path& dir, const FormatOptions& o);

// Takes the lock that a mount holds, and writes our pid into it. Throws Error(EBUSY) naming the holder.
UniqueFd lock_volume(const std::filesystem::path& dir);

struct VolumeOptions {
  std::string exclusion = std::string(exclusion::kDefaultScheme);
  bool allow_broken = false;  // accept schemes that are broken on purpose (torture, tests)
  bool canary = false;        // fill freed blocks and check them at reuse
  bool trace = false;         // keep the OwnerMap
  // Zapped blocks go back to the allocator in settle(), which the server calls when the caller has been answered;
  // else before the operation returns.
  bool free_in_settle = false;
  // Unlinked files that clients of a manager that died may have open are kept until end_grace(), if such clients live.
  bool grace = false;
  // What is free may be mapped by clients of a manager that died: taken away at mount. Off only to see a test fail.
  bool zap_at_mount = true;
  bool probe = true;          // first see in a child process that the pool can be opened (meta::probe)
  LeaseOptions lease = {};
  // Acked mode on a region that could be gated: clients' VMAs are direct, and must be revoked by asking them.
  bool force_acked = false;
  // Read-only clients of a gated volume are asked to let go of blocks before those are free. Off only to see a test fail.
  bool ask_readers = true;
};

struct VolumeCounters {
  Counter invalidates, zaps, zapped_pages, zero_blocks, zero_commits, retries;
  Histogram invalidate_ns;
};

class MountedVolume {
 public:
  // Mounts: takes the lock, recovers (deferred frees are zapped, then freed; orphans are removed). Throws
  // EBUSY naming the holder, EUCLEAN, ENOTSUP, EINVAL.
  MountedVolume(const std::filesystem::path& dir, const VolumeOptions& o);
  ~MountedVolume();  // clean unmount; no handle or mapping may be left
  MountedVolume(const MountedVolume&) = delete;
  MountedVolume& operator=(const MountedVolume&) = delete;

  // --- paths: see path_walk.h. `who` asks: the owner of what is made, and what sticky directories look at.
  using Credentials = meta::Credentials;
  // O_CREAT, O_EXCL, O_TRUNC, O_NOFOLLOW (ELOOP) and the access mode count. A reference, to be given back by put().
  std::shared_ptr<Inode> open(std::string_view path, int flags, uint32_t mode, const Credentials& who);
  std::shared_ptr<Inode> open(std::string_view path, int flags, uint32_t mode, uint32_t uid, uint32_t gid) {
    return open(path, flags, mode, Credentials{uid, gid});
  }
  void mkdir(std::string_view path, uint32_t mode, const Credentials& who);
  void mkdir(std::string_view path, uint32_t mode, uint32_t uid, uint32_t gid) {
    mkdir(path, mode, Credentials{uid, gid});
  }
  void mknod(std::string_view path, uint32_t mode, const Credentials& who);  // EPERM: anything but a regular file
  void symlink(std::string_view target, std::string_view path, const Credentials& who = {});
  std::string readlink(std::string_view path);
  void link(std::string_view from, std::string_view to, FollowLast last = FollowLast::kNo, const Credentials& who = {});
  void rmdir(std::string_view path, const Credentials& who = {});
  void unlink(std::string_view path, const Credentials& who = {});
  void rename(std::string_view from, std::string_view to, uint32_t flags = 0, const Credentials& who = {});
  // The same of a name in a directory, for who walks by himself.
  void unlink(Ino dir, std::string_view name, const Credentials& who);
  void rmdir(Ino dir, std::string_view name, const Credentials& who);
  void rename(Ino from_dir, std::string_view from, Ino to_dir, std::string_view to, uint32_t flags, const Credentials& who);
  std::vector<meta::DirEntry> list(std::string_view path, uint64_t cookie, size_t max);
  meta::InodeAttr stat(std::string_view path, FollowLast last = FollowLast::kYes);
  Ino lookup(std::string_view path, FollowLast last = FollowLast::kYes);
  // A regular file comes with a reference, to be given back by put(): its number means it until then.
  struct Found {
    Ino ino;
    std::shared_ptr<Inode> file;
  };
  Found find(std::string_view path, FollowLast last);

  // --- references on an Inode from open()
  std::shared_ptr<Inode> get(Ino ino) { return inodes_.get(ino); }
  void ref(Inode& i) { inodes_.ref(i); }
  void put(Inode& i) { inodes_.put(i); }
  std::shared_ptr<Inode> peek(Ino ino) { return inodes_.peek(ino); }
  std::vector<std::shared_ptr<Inode>> in_memory() { return inodes_.all(); }  // without references
  // The same for directories and symbolic links: while it is pinned the number means what it means now, though its
  // last name go. To be sure what that is, look the name up once more after the pin. Counted.
  void pin(Ino ino);
  void unpin(Ino ino);
  meta::InodeAttr getattr(Inode& i);

  // --- data (io.cc). The buffers are the manager's, never memory that a client mapped from a file.
  size_t read(Inode& i, std::span<std::byte> out, uint64_t offset, Wait wait = Wait::kBlock);
  size_t write(Inode& i, std::span<const std::byte> in, uint64_t offset, Wait wait = Wait::kBlock);
  uint64_t append(Inode& i, std::span<const std::byte> in, Wait wait = Wait::kBlock);  // returns the offset
  void fsync(Inode& i, Wait wait = Wait::kBlock) { fsync(i, {Pgoff(0), kEndOfFile}, wait); }
  // Of the stores to these pages. In gated mode the PTEs are read-only then, and what is not stored to again is not flushed again.
  // Throws Error(EAGAIN): kNoWait, and there is something to flush or to wait for.
  void fsync(Inode& i, PageRange pages, Wait wait = Wait::kBlock);
  // mtime moves if there may have been stores through mappings since the last call. The end of a mapping says so too.
  void note_stores(Inode& i);

  // --- size and holes (invalidate.cc, grow.cc). `client`: who asked, for the trace.
  void truncate(Inode& i, uint64_t size, Wait wait = Wait::kBlock, uint64_t client = 0);
  void punch(Inode& i, uint64_t offset, uint64_t length, Wait wait = Wait::kBlock, uint64_t client = 0);
  void zero_range(Inode& i, uint64_t offset, uint64_t length, Wait wait = Wait::kBlock, uint64_t client = 0);
  void preallocate(Inode& i, uint64_t offset, uint64_t length, bool keep_size, Wait wait = Wait::kBlock);
  // Whole units leave the file, or zeros come into it, and what is behind moves (shift.cc). EINVAL: not multiples of
  // the unit, or nothing is behind; EFBIG; ENOSPC: what clients have mapped moves to blocks that must be free.
  void collapse(Inode& i, uint64_t offset, uint64_t length, Wait wait = Wait::kBlock, uint64_t client = 0);
  void insert(Inode& i, uint64_t offset, uint64_t length, Wait wait = Wait::kBlock, uint64_t client = 0);

  // Shares whole units (clone.cc), as FICLONERANGE: length 0 is to the end. Not in one step for a crash: what it did is
  // a prefix. EINVAL: offsets, or a length that does not reach both ends, are not multiples of the unit; overlap.
  void clone_range(Inode& from, uint64_t from_offset, Inode& to, uint64_t to_offset, uint64_t length,
                   Wait wait = Wait::kBlock, uint64_t client = 0);

  // --- seek_copy.cc
  enum class Seek : uint8_t { kData, kHole };
  uint64_t seek(Inode& i, uint64_t offset, Seek what);  // ENXIO
  // As copy_file_range(2); short at the end of `from` or after 256 MiB of data. EINVAL: overlap within one file.
  uint64_t copy_range(Inode& from, uint64_t from_offset, Inode& to, uint64_t to_offset, uint64_t length,
                      Wait wait = Wait::kBlock, uint64_t client = 0);

  // Makes free space of what is only held: reservations and zero blocks of all inodes but those busy.
  // Called with lock entries held: takes nothing it would have to wait for.
  uint64_t reclaim();
  // Reserved blocks for `i`; an ENOSPC is first answered by reclaim(). Throws Error(ENOSPC).
  FileExtent take_blocks(Inode& i, Pgoff p, uint64_t want, PageRange hole, const std::optional<FileExtent>& before);
  // Finishes what free_in_settle left to do; whoever is short of blocks or asks for space() does it too.
  void settle() { finish_some_zapped(); }
  meta::Space space();
  // Store::set_quota; who waits for space may have it now.
  void set_quota(meta::QuotaKind kind, uint32_t id, uint64_t block_limit, uint64_t inode_limit) {
    store_->set_quota(kind, id, block_limit, inode_limit);
    freed();
  }
  // Something was freed: called at the end of each operation that did, with no lock held.
  void on_freed(std::function<void()> f) { on_freed_ = std::move(f); }
  uint64_t times_freed() const { return times_freed_.load(); }

  // --- after a manager that died (takeover.cc)
  // Clients of former managers that live and have not come to this one: they may have PTEs on any block of a file.
  size_t strangers();
  bool in_grace() const { return in_grace_.load(); }
  void end_grace();  // frees the unlinked files that nobody has come for. No lock held.
  // The file of that number, if it is still this one. A reference, to be given back by put(). Throws Error(ESTALE).
  std::shared_ptr<Inode> reattach(Ino ino, uint64_t generation);
  // The lock that says that a client lives: to be given to it. `direct`: it maps blocks directly. One thread at a time.
  ClientLocks::Life grant_life_lock(bool direct) { return locks_->grant(direct); }

  // What is allocated, mapped and freed as a whole. Constant.
  Unit unit() const { return unit_; }

  // --- acked mode (acked.cc): clients map blocks directly, and are asked to let go of them. All of a volume that is not gated;
  // of one that is, the read-only ones.
  bool gated() const { return region_->gated(); }
  // An operation on a file has returned; it takes effect in every client only when what it has begun on the file is
  // answered. These tell. (collapse, insert and clone_range throw MustWait: again, when that is so.)
  bool when_idle(Ino ino, std::function<void()> then) { return quarantine_.when_idle(ino, std::move(then)); }
  void wait_idle(Ino ino) { quarantine_.wait(ino); }
  Quarantine& quarantine() { return quarantine_; }
  // A direct client of this manager has hung up; unless its life lock is free it may have blocks mapped still: counted among the
  // strangers from now on. `pidfd`: to kill it by, or none.
  void estrange(uint64_t life, std::shared_ptr<const UniqueFd> pidfd, int64_t now_ns);
  // Kept until there are no direct strangers any more; not at all, if there are none.
  void keep_for_strangers(std::shared_ptr<const void> keep);
  // How many of the strangers may have blocks mapped directly, when strangers() was called last.
  size_t direct_strangers() const { return direct_strangers_.load(); }
  // What waits for strangers. One of them has come back: it waits for what this client will answer, too.
  std::vector<std::shared_ptr<const void>> strangers_keep();
  // Kills those who have hung up, or have not come from a former manager, since then, and live on. How many processes. No lock held.
  size_t fence_strangers(int64_t older_than_ns);
  void answered();  // a client has: frees what is free now. No lock held.

  // Makes the region larger, while it is in use: `blocks` in all. Throws Error(EINVAL: not larger; EFBIG, ENOSPC);
  // nothing has changed then. No lock that a fault takes is held while memory is found.
  void grow(uint64_t blocks);

  Leases& leases() { return leases_; }
  Region& region() { return *region_; }
  meta::Store& store() { return *store_; }
  OwnerMap* owners() { return owners_.get(); }
  VolumeCounters& counters() { return counters_; }
  const exclusion::SchemeInfo& scheme() const { return *scheme_; }
  const VolumeOptions& options() const { return options_; }
  const std::filesystem::path& dir() const { return dir_; }
  uint64_t bad_blocks() const { return bad_blocks_; }  // free ones that nobody is given, as the kernel knew them at mount
  meta::Superblock superblock() const { return store_->superblock(); }

 private:
  friend class BlockRun;
  std::shared_ptr<Inode> open_or_create(std::string_view path, int flags, uint32_t mode, const Credentials& who);
  void recover();
  void zap_free_blocks();
  void keep_bad_blocks();
  void remove_orphans();
  void evict(Inode& i);
  template <class F>
  void remove_name(F&& f);
  void unlinked(const meta::Unlinked& u);
  struct Stuck {  // blocks that left their file; id: their record on the deferred-free list
    uint64_t id = 0;
    std::vector<Extent> extents, zeros;
  };
  void invalidate(Inode& i, PageRange pages, PageRange whole, std::optional<uint64_t> new_size, Wait wait,
                  BlockEvent what, uint64_t client, const std::function<void()>& edges);
  void split_edges(Inode& i, PageRange pages, PageRange whole, Wait wait);
  // `ticket`: of the operation whose last zap this is; null if another follows.
  void give_back(Inode& i, exclusion::InvalidateTicket* ticket, const meta::Removed& removed,
                 const std::vector<Extent>& zeros, PageRange whole, BlockEvent what, uint64_t client);
  uint64_t reclaim_zero(Inode& i, Pgoff p);
  enum class Zap : bool { kAgain, kLast };  // kAgain: once more before the blocks are free
  bool try_zap(const Stuck& s, Zap which);
  void finish(Stuck& s);
  void finish_zapped();
  void finish_some_zapped();
  void track_owners(Ino ino);
  void retry_stuck();
  void zero_bytes(Inode& i, uint64_t from, uint64_t to);
  void store_bytes(Pfn first, uint64_t in_block, const std::byte* from, uint64_t bytes);
  void end_tail(Inode& i, uint64_t size);
  void zero_edges(Inode& i, uint64_t offset, uint64_t end, PageRange whole);
  void forget_written(Inode& i, PageRange r);
  void grow(Inode& i, uint64_t size, Wait wait);
  void extend(Inode& i, uint64_t size, Wait wait);  // grow, if it is smaller
  std::vector<FileExtent> maybe_mapped(Inode& i, PageRange r);
  Extent reserve_anywhere(Pfn goal, uint64_t count);
  FileExtent own_blocks(Inode& i, FileExtent e);
  void own_edges(Inode& i, PageRange pages, PageRange whole);
  bool shares(Inode& i, PageRange r);
  void fill_holes(Inode& i, PageRange r, Wait wait);
  static constexpr unsigned kMaxMoveAttempts = 1000;
  bool evacuate(Inode& i, PageRange r, Wait wait, BlockEvent what, uint64_t client);
  void write_back(Inode& i, PageRange r);
  bool protect(Inode& i, PageRange r);
  void release_direct(Inode& i, PageRange r, Wait wait);
  bool must_ask(const Inode& i) const;
  void hold(Inode& i, PageRange whole, Stuck s);
  void retire(Stuck s);
  void shift(Inode& i, PageRange rest, PageRange moving, uint64_t new_size, Wait wait, BlockEvent what,
             uint64_t client, const std::function<meta::Removed()>& transaction);
  void prepare_growth(Inode& i, uint64_t old_size, uint64_t seen_to, Wait wait);
  size_t write_at(Inode& i, std::span<const std::byte> in, uint64_t offset, bool extend, Wait wait);
  void touch_mtime(Inode& i);

  const std::filesystem::path dir_;
  const VolumeOptions options_;
  const exclusion::SchemeInfo* scheme_;
  UniqueFd lock_;
  std::unique_ptr<meta::Store> store_;
  Unit unit_;
  std::unique_ptr<Region> region_;
  std::unique_ptr<OwnerMap> owners_;
  uint64_t bad_blocks_ = 0;
  InodeTable inodes_;
  VolumeCounters counters_;
  Leases leases_{options_.lease};
  void freed();
  Mutex grow_mutex_{LockRank::kNamespace, "volume grow"};
  std::function<void()> on_freed_;
  std::atomic<uint64_t> times_freed_{0};
  std::unique_ptr<ClientLocks> locks_;
  std::atomic<bool> in_grace_{false};
  struct Pin {
    uint64_t count = 0;
    bool nameless = false;  // to be freed with the last pin
  };
  Mutex pins_mutex_{LockRank::kLeaf, "volume pins"};
  std::unordered_map<uint64_t, Pin> pins_ GUARDED_BY(pins_mutex_);
  Mutex strangers_mutex_{LockRank::kLeaf, "volume strangers"};
  struct Stranger {
    uint64_t life;  // its byte of `locks_`
    bool direct;
    std::shared_ptr<const UniqueFd> pidfd;  // null: of a former manager; see ClientLocks::holders
    int64_t since_ns = 0;
    bool fenced = false;
  };
  std::vector<Stranger> strangers_ GUARDED_BY(strangers_mutex_);
  std::atomic<size_t> direct_strangers_{0};  // of them; changed with the mutex held
  std::vector<std::shared_ptr<const void>> strangers_keep_ GUARDED_BY(strangers_mutex_);
  Quarantine quarantine_;
  Mutex stuck_mutex_{LockRank::kLeaf, "volume stuck"};
  std::vector<Stuck> stuck_ GUARDED_BY(stuck_mutex_);   // could not be zapped
  std::vector<Stuck> zapped_ GUARDED_BY(stuck_mutex_);  // settle() frees them
  std::atomic<size_t> unsettled_{0};                    // of zapped_, and of those that a thread is freeing
  CondVar settled_;                                     // unsettled_ became 0
  std::unique_ptr<Refill> refill_;                     // last: its thread uses the others
};

}  // namespace pmfs
