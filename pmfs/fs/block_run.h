// BlockRun: the get_block of this file system. Locks the lock entries of a run of pages, says what backs
// them, allocates and commits; what the fault path, read and write have in common.
//
//   BlockRun run = BlockRun::grab(volume, inode, p, want, wait);
//   hole:       run.allocate(n) -> kFresh (zeroed, reserved, nobody else's)
//   kFresh:     run.commit() -> kWritten, one transaction;  or run.keep_zero() -> kZero
//   kZero:      a volatile zero block; run.commit() -> kWritten: that very block becomes the file's
//   kShared:    run.own(n) before it is written to or mapped -> kWritten: blocks of its own, with the same contents
//   kUnwritten: run.zero_unwritten() before it is shown to anybody; run.commit() -> kWritten
//
// grab() enters the inode's exclusion scheme on the fault side, again and again while the scheme says that an
// invalidate has come between; the destructor unlocks the entries, with the state reached, and leaves the scheme. An
// uncommitted kFresh goes back to the allocator.
// Source: fs/dax.c dax_iomap_pte_fault (grab_mapping_entry, iomap_begin, insert, unlock).
#pragma once

#include <vector>

#include "pmfs/exclusion/entry_tree.h"
#include "pmfs/fs/inode.h"
#include "pmfs/region/region.h"

namespace pmfs {

class MountedVolume;

enum class BlockKind : uint8_t { kBusy, kBeyondEof, kHole, kFresh, kZero, kUnwritten, kShared, kWritten };

class BlockRun {
 public:
  enum class Eof : uint8_t { kCheck, kIgnore };  // kIgnore: a write that extends, under size_mutex
  // The run starts at `p`, or where its unit does, and has at most `want` pages (>= 1) from `p` on, then to the end of a unit: as many
  // as follow in the same state and are not locked by others; it never waits for a page but `p`. kBusy (kNoWait only): nothing
  // is locked. kBeyondEof: `p` itself is; the rest of a unit that the end of the file lies in is like the unit.
  // LockRank kEntry.
  static BlockRun grab(MountedVolume& v, Inode& i, Pgoff p, uint64_t want, Wait wait, Eof eof = Eof::kCheck);
  ~BlockRun();
  BlockRun(BlockRun&& o) noexcept;
  BlockRun& operator=(BlockRun&&) = delete;

  BlockKind kind() const { return kind_; }
  // pfn is meaningful for kFresh and below.
  const FileExtent& extent() const { return extent_; }
  uint64_t count() const { return extent_.count; }
  Pgoff end() const { return extent_.end(); }
  uint64_t bytes_from(uint64_t offset) const { return extent_.end().bytes() - offset; }  // of the file
  // From `p` on, without the pages of its last unit that are beyond the end of the file.
  FileExtent visible(Pgoff p) const;
  bool writable() const { return kind_ == BlockKind::kWritten; }

  // These take whole units, so up to a unit less a page more than they are asked for.
  // kHole -> kFresh, of at most `n` pages (the rest is unlocked). Throws Error(ENOSPC).
  void allocate(uint64_t n);
  // Keeps only the first `n` pages, or fewer where a 2 MiB entry has to be split.
  void shrink(uint64_t n);
  // kFresh, kZero, kUnwritten -> kWritten. Data or zeros in the blocks are flushed first. Throws Error(ENOSPC).
  void commit(std::optional<uint64_t> new_size = std::nullopt);
  // kHole -> kUnwritten, zeroed, of at most `n` pages, in one transaction. Throws Error(ENOSPC).
  void preallocate(uint64_t n);
  // kShared -> kWritten, of at most `n` pages. Throws Error(ENOSPC, EDQUOT).
  void own(uint64_t n);
  void keep_zero();       // kFresh -> kZero
  void zero_unwritten();  // kUnwritten: the blocks now read as zero
  // To be asked right before the blocks are used: installed in a client or copied. False: an invalidate may have
  // come between (no sound scheme says it so late): drop the run and grab again.
  bool resolved() { return i_->exclusion->fault_resolved(&ticket_); }
  void mark_shown();      // somebody may have a PTE from now on: who moves the block takes it away
  void mark_dirty();      // somebody may store through a PTE from now on: fsync flushes these pages
  bool dirty() const;     // some page of the run is
  void mark_clean();      // nobody can store through a PTE, and all stores are flushed

 private:
  BlockRun(MountedVolume& v, Inode& i, const exclusion::FaultTicket& t) : v_(&v), i_(&i), ticket_(t) {}
  enum class Attempt : uint8_t { kDone, kAgain, kSmaller };  // kSmaller: with order-0 entries
  Attempt attempt(Pgoff p, uint64_t want, Wait wait, Eof eof);
  exclusion::FaultTicket give_up();
  void leave();
  bool lock_first(Pgoff p, uint64_t want, Wait wait);
  void lock_rest(uint64_t want);
  void confirm_rest();
  bool probe(Pgoff p, const exclusion::Entry& e, uint64_t want);
  Unit unit() const;
  exclusion::Entry value_for(const exclusion::LockedEntry& e) const;
  void unlock_from(size_t index);
  void unlock_all();

  MountedVolume* v_;
  Inode* i_;
  BlockKind kind_ = BlockKind::kBusy;
  FileExtent extent_;
  PageRange hole_{};      // kHole: from the first page to the next extent
  exclusion::FaultTicket ticket_;
  bool entered_ = false;
  bool shown_ = false, dirty_ = false, clean_ = false;
  bool zeroed_ = false;   // kUnwritten: the blocks are known to read as zero
  std::vector<exclusion::LockedEntry> locked_;
};

}  // namespace pmfs
