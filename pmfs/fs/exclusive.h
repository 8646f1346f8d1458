// What an operation that takes blocks away from a file, or moves them, holds meanwhile.
#pragma once

#include "pmfs/base/error.h"
#include "pmfs/fs/inode.h"

namespace pmfs {

// The pages of `r` excluded: no fault is in flight there, none gets in. EAGAIN under kNoWait.
class Exclusive {
 public:
  Exclusive(Inode& i, PageRange r, Wait wait) : i_(i) {
    if (!i.exclusion->enter_invalidate(r, wait, nullptr, &ticket_))
      fail(EAGAIN, "inode {}: pages {}..{} are busy", to_u64(i.ino), r.first.v, r.end.v);
  }
  ~Exclusive() { i_.exclusion->leave_invalidate(&ticket_); }
  Exclusive(const Exclusive&) = delete;
  Exclusive& operator=(const Exclusive&) = delete;
  exclusion::InvalidateTicket& ticket() { return ticket_; }

 private:
  Inode& i_;
  exclusion::InvalidateTicket ticket_;
};

// The size can't change. EAGAIN under kNoWait.
class SizeLock {
 public:
  SizeLock(Inode& i, Wait wait) NO_THREAD_SAFETY_ANALYSIS : m_(i.size_mutex) {
    if (wait == Wait::kBlock)
      m_.Lock();
    else if (!m_.TryLock())
      fail(EAGAIN, "inode {}: its size is being changed", to_u64(i.ino));
  }
  ~SizeLock() NO_THREAD_SAFETY_ANALYSIS { m_.Unlock(); }
  SizeLock(const SizeLock&) = delete;
  SizeLock& operator=(const SizeLock&) = delete;

 private:
  Mutex& m_;
};

}  // namespace pmfs
