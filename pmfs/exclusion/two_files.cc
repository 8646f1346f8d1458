#include "pmfs/exclusion/two_files.h"

#include <cerrno>

#include "pmfs/base/pause.h"

namespace pmfs::exclusion {

bool TwoFiles::enter_scheme(State& s, Wait wait) {
  WoundTicket* const w = s.file.scheme->wounds() ? &ticket_ : nullptr;
  if (s.file.side == LockSide::kAdd) {
    s.fault.wound = w;
    s.entered = s.file.scheme->enter_fault({s.file.range.first, s.file.range.first + 1}, wait, &s.fault);
  } else {
    s.invalidate.wound = w;
    s.entered = s.file.scheme->enter_invalidate(s.file.range, wait, nullptr, &s.invalidate);
  }
  return s.entered;
}

bool TwoFiles::lock_entry(State& s, Wait wait) {
  if (s.file.side == LockSide::kBlock) return true;
  s.entry = s.file.tree->lock(s.file.range.first, 0, wait);
  if (!s.entry) return false;
  if (s.file.scheme->fault_locked(&s.fault)) return true;
  ++s.fault.retries;
  return false;
}

bool TwoFiles::enter_one(State& s, Wait wait) {
  for (;;) {
    const unsigned before = s.fault.retries;
    if (enter_scheme(s, wait) && lock_entry(s, wait)) return true;
    leave_one(s);
    // A fault whose scheme has seen an invalidate starts again. Anything else is a refusal.
    if (wait == Wait::kNoWait || s.fault.retries == before) return false;
  }
}

void TwoFiles::leave_one(State& s) {
  if (s.entry) s.file.tree->unlock(s.entry, s.entry.value);
  s.entry = {};
  if (!s.entered) return;
  s.entered = false;
  if (s.file.side == LockSide::kAdd) {
    s.file.scheme->leave_fault(&s.fault);
  } else {
    s.file.scheme->leave_invalidate(&s.invalidate);
  }
}

void TwoFiles::enter_wounding() {
  for (;; ++retries_) {
    ticket_.start();
    if (enter_scheme(side_[0], Wait::kBlock)) {
      PMFS_PAUSE_POINT("two_files:first_entered");
      if (enter_scheme(side_[1], Wait::kBlock)) break;
    }
    leave();
  }
  const bool swap = side_[1].file.ino < side_[0].file.ino;
  lock_entry(side_[swap], Wait::kBlock);
  lock_entry(side_[!swap], Wait::kBlock);
}

int TwoFiles::enter(Wait wait) {
  if (side_[0].file.ino == side_[1].file.ino) return EDEADLK;
  if (wait == Wait::kBlock && side_[0].file.scheme->wounds()) return enter_wounding(), 0;
  bool second = side_[1].file.ino < side_[0].file.ino;
  for (;; ++retries_) {
    ticket_.start();
    if (enter_one(side_[second], wait)) {
      PMFS_PAUSE_POINT("two_files:first_entered");
      if (enter_one(side_[!second], Wait::kNoWait)) return 0;
    }
    leave();
    if (wait == Wait::kNoWait) return EAGAIN;
    second = !second;  // waited for with nothing held
  }
}

void TwoFiles::leave() {
  leave_one(side_[1]);
  leave_one(side_[0]);
}

}  // namespace pmfs::exclusion
