// For the .cc files of the schemes only: their makers, and what several of them do the same way.
#pragma once

#include "pmfs/exclusion/scheme.h"

namespace pmfs::exclusion {

std::unique_ptr<Scheme> make_range(LockEntryTree& tree, uint64_t ino);
std::unique_ptr<Scheme> make_none(LockEntryTree& tree, uint64_t ino);
std::unique_ptr<Scheme> make_isize_only(LockEntryTree& tree, uint64_t ino);

// An invalidate's range, against the other invalidates. Null: would have to wait, or cancelled.
inline RangeLock::Ticket lock_range(RangeLock& lock, PageRange r, Wait wait, CancelToken* cancel) {
  return wait == Wait::kNoWait ? lock.TryLock(r, RangeMode::kExclusive) : lock.Lock(r, RangeMode::kExclusive, cancel);
}

}  // namespace pmfs::exclusion
