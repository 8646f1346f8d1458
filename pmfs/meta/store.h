// Store: all persistent metadata of a volume, in one libpmemobj pool, opened by the manager only.
//
// Every member that changes something is one transaction: when it returns the change is durable, if the
// power fails before that nothing of it is there. docs/format.md describes what is on the media.
//
// Locks: meta mutex (LockRank::kMeta), taken inside every member; callers may hold anything of lower rank.
// Block bitmap: LockRank::kAllocator. Nothing here waits for a client or calls upwards.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pmfs/base/types.h"
#include "pmfs/base/unit.h"
#include "pmfs/meta/credentials.h"

namespace pmfs::meta {

inline constexpr uint32_t kFormatVersion = 5;  // 1 to 4 were never released and are refused
inline constexpr size_t kMaxName = 255;        // bytes
inline constexpr size_t kMaxSymlink = 4095;    // bytes
inline constexpr uint32_t kMaxLinks = 0x7fffffff;
// Extended attributes: the limits of Linux. The names of one inode, each with a NUL, always fit a list.
inline constexpr size_t kMaxXattrName = 255, kMaxXattrValue = 65536, kMaxXattrList = 65536;

struct Geometry {
  uint64_t blocks = 0;       // of the region
  uint32_t region_kind = 1;  // RegionKind
  bool sparse = false;       // region pages are not reserved ahead
  Unit unit = {};            // of all extents of files; `blocks` is a multiple
};

struct Superblock {  // a copy of the persistent one
  uint8_t uuid[16];
  uint32_t version;
  uint64_t features_compat, features_ro, features_incompat;
  Geometry geometry;
  uint64_t mount_epoch;  // counts mounts
  bool was_clean;        // the last manager unmounted cleanly (every free block then reads as zero)
  uint64_t growing_to;   // blocks: when it was opened, a grow had begun and not ended; else 0
};

struct InodeAttr {
  Ino ino{};
  uint32_t mode = 0;  // S_IF… | permissions
  uint32_t uid = 0, gid = 0, nlink = 0;
  uint64_t size = 0;    // bytes; of a directory: its number of entries
  uint64_t blocks = 0;  // owned blocks, unwritten ones included
  int64_t atime_ns = 0, mtime_ns = 0, ctime_ns = 0, btime_ns = 0;
  uint64_t generation = 0;  // distinguishes reuses of an ino
};

struct AttrChange {  // what is not given stays
  static constexpr int64_t kNow = INT64_MIN + 1;
  std::optional<uint32_t> mode, uid, gid;  // mode: the permission bits
  std::optional<int64_t> atime_ns, mtime_ns;  // or kNow
};

// rename's flags, as the system call's.
inline constexpr uint32_t kRenameNoReplace = 1, kRenameExchange = 2;
// setxattr's flags, as the system call's.
inline constexpr uint32_t kXattrCreate = 1, kXattrReplace = 2;

struct DirEntry {
  std::string name;
  Ino ino{};
  uint32_t mode = 0;
  uint64_t cookie = 0;  // pass to list() to go on behind this entry; stable while the directory changes
};

struct Removed {  // what an invalidate took out of an inode: on the deferred-free list until finish_free()
  uint64_t id = 0;  // 0: nothing was removed
  std::vector<Extent> extents;  // to be zapped; without the shared ones
};

struct Shared {  // by share_extents()
  Pgoff next;        // the first page of the source that is not done
  Removed removed;   // what the target had
};

struct Unlinked {
  Ino ino{};
  bool last_link = false;  // nlink fell to 0: the inode is on the orphan list now
  uint32_t mode = 0;       // what it was: its number may be another file's by the time it is looked at
  bool freed = false;      // nor that: its number is free
};
// Asked for an inode that is about to lose its last name and has nothing that must be removed step by step, with the meta
// mutex held: does nobody have it, nor will before the call returns? Then it is freed with the name, in one transaction.
// Must not wait; may take locks of higher rank than kMeta. Null: no.
using Claim = std::function<bool(Ino, uint32_t mode)>;

struct Space {
  uint64_t blocks_total = 0, blocks_used = 0, blocks_deferred = 0, blocks_reserved = 0, blocks_free = 0;
  uint64_t inodes_used = 0;
  uint64_t meta_bytes_total = 0, meta_bytes_used = 0;
};

enum class QuotaKind : uint8_t { kUser = 1, kProject = 2 };
struct Quota {
  QuotaKind kind{};
  uint32_t id = 0;
  uint64_t blocks = 0, inodes = 0;            // used
  uint64_t block_limit = 0, inode_limit = 0;  // 0: none
};
struct Project {
  uint32_t id = 0;       // 0: none
  bool inherit = false;  // of a directory: what is made in it is of the project; nothing else gets a name there (EXDEV)
};

enum class BlockState : uint8_t { kFree, kReserved, kUsed, kDeferred };

// Opens the pool as Store::open does, privately and in a child process: libpmemobj believes its own structures and may
// crash on damaged ones. Throws EUCLEAN if it does; what open() throws is left to open(). Nothing is written.
void probe(const std::filesystem::path& path);

class Store {
 public:
  // Creates the pool at `path` (mode 0600) with an empty root directory. Pool size is derived from the
  // geometry unless given (bytes). Throws EEXIST, ENOSPC, EINVAL.
  static std::array<uint8_t, 16> format(const std::filesystem::path& path, const Geometry& g, uint64_t pool_bytes = 0);
  // Opens and locks. Errors: EBUSY (somebody has it open), EUCLEAN (not a pmfs pool, or damaged), ENOTSUP
  // (newer version or unknown incompatible feature; says which), EIO.
  static std::unique_ptr<Store> open(const std::filesystem::path& path);
  virtual ~Store() = default;  // closes; not a clean unmount unless mark_clean() came before

  virtual Superblock superblock() const = 0;
  virtual Unit unit() const = 0;  // constant
  virtual void mark_clean() = 0;  // the last thing a clean unmount does
  // A larger region: begin_grow says that the region's file may be so long from now on, grow that the blocks are the
  // volume's (free), or, with the blocks there are, that nothing came of it. EINVAL: fewer than there are, no whole units; EFBIG; ENOSPC.
  virtual void begin_grow(uint64_t blocks) = 0;
  virtual void grow(uint64_t blocks) = 0;

  // --- namespace. Names are checked: ENAMETOOLONG, EINVAL for "", ".", "..", '/' or NUL. ENOENT, ENOTDIR.
  virtual Ino lookup(Ino dir, std::string_view name) = 0;
  // None where lookup() says ENOENT for the name, at a fifth of the price of an exception. ENOENT: `dir` is none.
  virtual std::optional<Ino> find(Ino dir, std::string_view name) = 0;
  // `who` asks: their ids are the new inode's (in a setgid directory its group is the directory's), and in a sticky
  // directory only the owner of a name or of the directory may take the name away (EPERM).
  virtual Ino create(Ino dir, std::string_view name, uint32_t mode, const Credentials& who) = 0;  // S_IFREG; EEXIST
  virtual Ino mkdir(Ino dir, std::string_view name, uint32_t mode, const Credentials& who) = 0;   // EEXIST, EMLINK
  // ENOENT: empty target; ENAMETOOLONG. The target is not looked at.
  virtual Ino symlink(Ino dir, std::string_view name, std::string_view target, const Credentials& who) = 0;
  virtual std::string readlink(Ino ino) = 0;  // EINVAL: not a symbolic link
  // One more name. EPERM: a directory; EMLINK; ENOENT: `ino` has lost its last name; EEXIST.
  virtual void link(Ino ino, Ino dir, std::string_view name, const Credentials& who) = 0;
  virtual Unlinked unlink(Ino dir, std::string_view name, const Credentials& who, const Claim& claim = {}) = 0;  // EISDIR
  // ENOTEMPTY. The directory is an orphan then, as a file is, until free_inode(): front ends may still know it.
  virtual Unlinked rmdir(Ino dir, std::string_view name, const Credentials& who, const Claim& claim = {}) = 0;
  // POSIX rename, atomic; `replaced` is the file or directory that was there. EINVAL: a directory into
  // itself; EISDIR, ENOTDIR, ENOTEMPTY, EMLINK. kRenameNoReplace: EEXIST if there is something. kRenameExchange: both
  // names stay and change places, whatever they are.
  virtual std::optional<Unlinked> rename(Ino sdir, std::string_view sname, Ino ddir, std::string_view dname,
                                         uint32_t flags, const Credentials& who, const Claim& claim = {}) = 0;
  // The same by the superuser, but for the owner of what is made.
  Ino create(Ino dir, std::string_view name, uint32_t mode, uint32_t uid, uint32_t gid) {
    return create(dir, name, mode, Credentials{uid, gid});
  }
  Ino mkdir(Ino dir, std::string_view name, uint32_t mode, uint32_t uid, uint32_t gid) {
    return mkdir(dir, name, mode, Credentials{uid, gid});
  }
  Unlinked unlink(Ino dir, std::string_view name) { return unlink(dir, name, Credentials{}); }
  Unlinked rmdir(Ino dir, std::string_view name) { return rmdir(dir, name, Credentials{}); }
  std::optional<Unlinked> rename(Ino sdir, std::string_view sname, Ino ddir, std::string_view dname) {
    return rename(sdir, sname, ddir, dname, 0, Credentials{});
  }
  // Entries behind `cookie` (0: from the start), at most `max`; without "." and "..".
  virtual std::vector<DirEntry> list(Ino dir, uint64_t cookie, size_t max) = 0;
  virtual Ino parent(Ino dir) = 0;

  // --- inodes
  virtual InodeAttr getattr(Ino ino) = 0;  // ENOENT
  // chmod, chown and utimensat in one. EPERM: `who` may not. Source: setattr_prepare, notify_change, setattr_copy.
  virtual void set_attr(Ino ino, const AttrChange& change, const Credentials& who) = 0;
  void set_mode(Ino ino, uint32_t mode, uint32_t uid, uint32_t gid) {
    set_attr(ino, {mode, uid, gid, {}, {}}, Credentials{});
  }
  // What a write takes from a program: its file capabilities, and with `set_ids` (the writer may not keep them) the bits
  // that run it as its owner or group. False: it had nothing of the kind. Source: fs/attr.c setattr_should_drop_suidgid.
  virtual bool drop_privileges(Ino ino, bool set_ids) = 0;
  virtual void set_times(Ino ino, int64_t atime_ns, int64_t mtime_ns) = 0;  // INT64_MIN: leave; ctime = now
  // Sets the size upwards only (writes that extend, truncate up); touches no extent.
  virtual void grow_size(Ino ino, uint64_t size) = 0;
  virtual std::vector<Ino> orphans() = 0;
  // Frees an inode with nlink 0 and no extents, off the orphan list. EBUSY otherwise.
  virtual void free_inode(Ino ino) = 0;

  // --- extended attributes. Names of user.*, security.* and trusted.*: EOPNOTSUPP for others, EINVAL for nothing behind
  // the dot, ERANGE if too long. trusted.* is for the privileged only, who also alone set security.*.
  // E2BIG: the value is too long; EEXIST, ENODATA: by `flags`; ENOSPC: the names don't fit a list, or the pool is full;
  // EPERM: user.* of a symbolic link, or of another's sticky directory.
  virtual void set_xattr(Ino ino, std::string_view name, std::span<const std::byte> value, uint32_t flags,
                         const Credentials& who) = 0;
  virtual std::vector<std::byte> get_xattr(Ino ino, std::string_view name, const Credentials& who) = 0;  // ENODATA
  virtual std::vector<std::string> list_xattrs(Ino ino, const Credentials& who) = 0;
  virtual void remove_xattr(Ino ino, std::string_view name, const Credentials& who) = 0;  // ENODATA

  // --- quotas: of users by an inode's owner, of projects by its project. Whatever would exceed a limit is EDQUOT; what
  // root gives away is not refused. Both limits 0: no quota, nothing is counted. Setting the first limit of an id looks
  // at every inode. A project's quota is a directory's, if that one hands its project on.
  virtual void set_quota(QuotaKind kind, uint32_t id, uint64_t block_limit, uint64_t inode_limit) = 0;
  virtual std::vector<Quota> quotas() = 0;
  virtual void set_project(Ino ino, const Project& p, const Credentials& who) = 0;  // EPERM: not privileged
  virtual Project project(Ino ino) = 0;

  // --- extents of a file
  // The extent that covers `p`, or nothing (a hole).
  virtual std::optional<FileExtent> lookup_extent(Ino ino, Pgoff p) = 0;
  // Extents that overlap `r`, clipped to it, in order, at most `max`.
  virtual std::vector<FileExtent> extents(Ino ino, PageRange r, size_t max) = 0;

  // --- blocks. A reservation is volatile: after a crash it is free again.
  // At most `count` contiguous free blocks, at least 1: at `goal` itself if that is free, else near it.
  // Throws ENOSPC when no block is free.
  // align > 1: the start is a multiple of `align` blocks if any such run of `count` is free; else best effort.
  // In whole units, always: EINVAL if `count` is none, ENOSPC when no whole one is free.
  virtual Extent reserve(Pfn goal, uint64_t count, uint64_t align) = 0;
  // Exactly the blocks of `e`, all or nothing.
  virtual bool reserve_at(Extent e) = 0;
  virtual void unreserve(Extent e) = 0;
  virtual BlockState block_state(Pfn pfn) const = 0;

  // Reserved blocks become the file's (tx: bitmap, extent map, i_blocks). `e.range()` must be a hole. EINVAL: not of whole units.
  // `new_size`: also raise the size, in the same transaction.
  virtual void commit_extent(Ino ino, const FileExtent& e, std::optional<uint64_t> new_size) = 0;
  // UNWRITTEN -> written for every extent in `r`. The blocks' zeros or data must be durable before.
  virtual void mark_written(Ino ino, PageRange r, std::optional<uint64_t> new_size) = 0;
  // written -> UNWRITTEN (zero range); the old contents can't be seen any more from here on.
  virtual void mark_unwritten(Ino ino, PageRange r) = 0;
  // One transaction: the extents in `r` leave the inode and join the deferred-free list; with `new_size`
  // the size is set too (truncate down). Whole or not at all. Works on a full pool (uses a reserve).
  // A directory or a symbolic link has none: nothing happens.
  virtual Removed remove_extents(Ino ino, PageRange r, std::optional<uint64_t> new_size) = 0;
  // Reserved blocks take the place of whatever is at the pages of `e`, in one transaction; what was there joins the
  // deferred-free list. For moving data: the caller has made a durable copy.
  virtual Removed replace_extent(Ino ino, const FileExtent& e) = 0;
  // The pages of `gone` leave the file and what is behind moves down to them, in one transaction, with the new size.
  virtual Removed collapse_range(Ino ino, PageRange gone, uint64_t new_size) = 0;
  // A hole of `pages` opens at `at`: what is there and behind moves up, in one transaction, with the new size. EFBIG.
  // ENOSPC: the log of so long a map doesn't fit the pool.
  virtual void insert_range(Ino ino, Pgoff at, uint64_t pages, uint64_t new_size) = 0;
  // The blocks of pages `r` become the file `to`'s too, at page `at`, instead of what it has there; as many extents as
  // one transaction takes. Unwritten ones are holes there. Nobody may have PTEs on `r`: shared blocks have none.
  // `new_size`: also raise the target's size to it, as far as `r` is done.
  virtual Shared share_extents(Ino from, PageRange r, Ino to, Pgoff at, std::optional<uint64_t> new_size) = 0;
  // True: no other file has any block of `r`, and the extents no longer say that one may.
  virtual bool unshare(Ino ino, PageRange r) = 0;
  // After the zap: the blocks of a Removed go back to the allocator, its record off the list. A shared block only loses
  // an owner; returned are those that lost the last one, free by now, and nobody zapped them.
  virtual std::vector<Extent> finish_free(uint64_t id) = 0;
  // What a crash left on the deferred-free list: zap first, then finish_free.
  virtual std::vector<Removed> deferred() = 0;

  virtual Space space() const = 0;
  // Calls fn(extent) for every run of blocks that are neither used, deferred nor reserved.
  virtual std::vector<Extent> free_extents(Pfn from, size_t max) const = 0;
  // Cross-checks every structure (each block owned once, bitmap, sizes, nlink, lists); findings as text.
  virtual std::vector<std::string> check() = 0;
};

}  // namespace pmfs::meta
