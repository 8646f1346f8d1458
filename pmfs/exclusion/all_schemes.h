// For the .cc files of the schemes only: their makers, and what several of them do the same way.
#pragma once

#include "pmfs/exclusion/scheme.h"

namespace pmfs::exclusion {

std::unique_ptr<Scheme> make_range(LockEntryTree& tree, uint64_t ino);
std::unique_ptr<Scheme> make_entries(LockEntryTree& tree, uint64_t ino);
std::unique_ptr<Scheme> make_range_only(LockEntryTree& tree, uint64_t ino);
std::unique_ptr<Scheme> make_invalidate(LockEntryTree& tree, uint64_t ino);
std::unique_ptr<Scheme> make_mmap_lock(LockEntryTree& tree, uint64_t ino);
std::unique_ptr<Scheme> make_seqtex(LockEntryTree& tree, uint64_t ino);
std::unique_ptr<Scheme> make_generation(LockEntryTree& tree, uint64_t ino);
std::unique_ptr<Scheme> make_add_lock(LockEntryTree& tree, uint64_t ino);
std::unique_ptr<Scheme> make_unmap_only(LockEntryTree& tree, uint64_t ino);
std::unique_ptr<Scheme> make_isize_only(LockEntryTree& tree, uint64_t ino);
std::unique_ptr<Scheme> make_none(LockEntryTree& tree, uint64_t ino);

inline constexpr PageRange kWholeInode{Pgoff(0), kEndOfFile};

// Null: would have to wait, or cancelled.
inline RangeLock::Ticket lock_range(RangeLock& lock, PageRange r, RangeMode m, Wait wait, CancelToken* cancel) {
  return wait == Wait::kNoWait ? lock.TryLock(r, m) : lock.Lock(r, m, cancel);
}
// An invalidate's range, against the other invalidates.
inline RangeLock::Ticket lock_range(RangeLock& lock, PageRange r, Wait wait, CancelToken* cancel) {
  return lock_range(lock, r, RangeMode::kExclusive, wait, cancel);
}

// A fault's ticket may carry a range lock.
inline uint64_t as_cookie(RangeLock::Ticket t) { return reinterpret_cast<uint64_t>(t); }
inline void unlock_cookie(RangeLock& lock, FaultTicket* t) {
  if (t->cookie) lock.Unlock(reinterpret_cast<RangeLock::Ticket>(t->cookie));
  t->cookie = 0;
}

}  // namespace pmfs::exclusion
