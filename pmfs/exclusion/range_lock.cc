#include "pmfs/exclusion/range_lock.h"

#include <list>

#include "pmfs/base/pause.h"

namespace pmfs::exclusion {

struct RangeLock::Holder {
  Holder(PageRange r, RangeMode m) : range(r), mode(m) {}
  // An empty range has no page to dispute.
  bool conflicts(const Holder& o) const {
    if (range.empty() || o.range.empty() || !range.overlaps(o.range)) return false;
    return mode == RangeMode::kExclusive || o.mode == RangeMode::kExclusive;
  }
  const PageRange range;
  const RangeMode mode;
  bool granted = false;
  CondVar cv;
};

// One list of holders and waiters in order of arrival: a request is granted when nothing before it conflicts. That
// rule alone is the fairness. Looking costs O(requests outstanding on this inode), which are operations of threads,
// so a handful; a tree would pay off from some hundreds.
struct RangeLock::Impl {
  Impl(uint64_t k, LockRank r) : key(k), rank(r) {}

  bool grantable(const Holder* h) const REQUIRES(mutex) {
    for (const Holder* before : requests) {
      if (before == h) return true;
      if (before->conflicts(*h)) return false;
    }
    return true;
  }
  // A request left: those behind it are looked at again, in order.
  void remove(Holder* h) REQUIRES(mutex) {
    requests.remove(h);
    for (Holder* w : requests) {
      if (w->granted || !grantable(w)) continue;
      w->granted = true;
      w->cv.Signal();
    }
  }

  const uint64_t key;
  const LockRank rank;
  Mutex mutex{LockRank::kLeaf, "range lock queue"};
  std::list<Holder*> requests GUARDED_BY(mutex);
};

RangeLock::RangeLock(uint64_t lock_key, LockRank rank) : impl_(std::make_unique<Impl>(lock_key, rank)) {}
RangeLock::~RangeLock() = default;

RangeLock::Ticket RangeLock::Lock(PageRange r, RangeMode m, CancelToken* cancel) {
  auto h = std::make_unique<Holder>(r, m);
  std::list<Holder*> place{h.get()};  // allocated while nothing has to be undone
  lock_order::acquired(h.get(), impl_->rank, impl_->key, "range lock", true, r.first.v);
  // Announced before the flag is read: cancel() sets the flag before it looks for whom to wake.
  if (cancel) {
    MutexLock l(cancel->mutex_);
    cancel->waiting_in_ = this;
  }
  PMFS_PAUSE_POINT("range_lock:before_queue");
  auto given_up = [cancel] { return cancel && cancel->cancelled(); };
  bool granted = false;
  {
    MutexLock l(impl_->mutex);
    if (!given_up()) {
      impl_->requests.splice(impl_->requests.end(), place);
      h->granted = impl_->grantable(h.get());
      while (!h->granted && !given_up()) h->cv.Wait(impl_->mutex);
      granted = h->granted;  // a grant that came first stands
      if (!granted) impl_->remove(h.get());
    }
  }
  if (cancel) {
    MutexLock l(cancel->mutex_);
    cancel->waiting_in_ = nullptr;
  }
  if (granted) return h.release();
  lock_order::released(h.get());
  return nullptr;
}

RangeLock::Ticket RangeLock::TryLock(PageRange r, RangeMode m) {
  auto h = std::make_unique<Holder>(r, m);
  std::list<Holder*> place{h.get()};
  MutexLock l(impl_->mutex);
  if (!impl_->grantable(h.get())) return nullptr;
  h->granted = true;
  impl_->requests.splice(impl_->requests.end(), place);
  lock_order::acquired(h.get(), impl_->rank, impl_->key, "range lock", false, r.first.v);
  return h.release();
}

void RangeLock::Unlock(Ticket t) {
  {
    MutexLock l(impl_->mutex);
    impl_->remove(t);
  }
  lock_order::released(t);
  delete t;
}

bool RangeLock::HeldExclusive(PageRange r) const {
  MutexLock l(impl_->mutex);
  for (const Holder* h : impl_->requests) {
    if (h->granted && h->mode == RangeMode::kExclusive && h->range.first <= r.first && r.end <= h->range.end) {
      return true;
    }
  }
  return false;
}

unsigned RangeLock::waiters() const {
  MutexLock l(impl_->mutex);
  unsigned n = 0;
  for (const Holder* h : impl_->requests) n += !h->granted;
  return n;
}

void RangeLock::wake_cancelled() {
  MutexLock l(impl_->mutex);
  for (Holder* h : impl_->requests) {
    if (!h->granted) h->cv.Signal();
  }
}

void CancelToken::cancel() {
  cancelled_.store(true);
  MutexLock l(mutex_);  // held across the wake-up: the waiter can't leave, nor its lock die, before it
  if (waiting_in_) waiting_in_->wake_cancelled();
}

}  // namespace pmfs::exclusion
