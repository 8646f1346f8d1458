#include "pmfs/exclusion/two_state_lock.h"

#include <algorithm>

#include "pmfs/base/pause.h"

namespace pmfs::exclusion {
namespace {

enum WaitState : uint32_t { kIdle, kWaiting, kGranted, kWounded };
std::atomic<uint64_t> g_stamp{0};

// One of the two who may end a wait wins. Called with the mutex of the lock held that the waiter is in (grant) or that
// its ticket holds (wound): it can't leave, and the word can't die, before the notification.
bool settle(std::atomic<uint32_t>& state, WaitState how) {
  uint32_t waiting = kWaiting;
  if (!state.compare_exchange_strong(waiting, how)) return false;
  state.notify_one();
  return true;
}

}  // namespace

WoundTicket::WoundTicket() : stamp_(g_stamp.fetch_add(1)) {}
void WoundTicket::start() { wounded_ = false; }

// The flag first: one that is about to wait looks at it after it has said so.
void WoundTicket::wound() {
  wounded_ = true;
  settle(state_, kWounded);
}

bool TwoStateLock::try_add() {
  uint64_t w = word_.load(std::memory_order_relaxed);
  while (!(w & kQueued) && w < kBlockOne) {
    if (word_.compare_exchange_weak(w, w + kAddOne)) return true;
  }
  return false;
}

bool TwoStateLock::fits(const Holder& h) const {
  const uint64_t w = word_.load();
  if (h.side == LockSide::kAdd) return w < kBlockOne;
  if (w & (kBlockOne - 1) & ~kQueued) return false;
  return std::none_of(named_.begin(), named_.end(),
                      [&](const Holder& o) { return o.side == LockSide::kBlock && o.range.overlaps(h.range); });
}

void TwoStateLock::admit(const Holder& h) {
  word_.fetch_add(one(h.side));
  if (h.side == LockSide::kBlock || h.wound) named_.push_back(h);
  // Whoever is older and still waits would have wounded it, had it been in before.
  for (const Waiter* q : queue_) {
    if (h.wound && q->wound && q->wound->older(*h.wound)) h.wound->wound();
  }
}

// With QUEUED set (or about to be) holders only leave, except through here: what fits stays fit.
void TwoStateLock::grant() {
  while (!queue_.empty()) {
    Waiter* w = queue_.front();
    if (!fits(*w)) return;
    queue_.pop_front();
    admit(*w);
    if (settle(*w->state, kGranted)) continue;
    word_.fetch_sub(one(w->side));  // wounded in the meantime: it has given up
    if (w->side == LockSide::kBlock || w->wound) named_.pop_back();
  }
  word_.fetch_and(~kQueued);
}

bool TwoStateLock::Lock(LockSide side, PageRange r, WoundTicket* w) {
  // With a ticket any order is right: recorded, not checked.
  lock_order::acquired(this, LockRank::kSchemeLock, key_, name_, w == nullptr, r.first.v);
  if (side == LockSide::kAdd && !w && try_add()) return true;
  std::atomic<uint32_t> own{kWaiting};
  Waiter me{{side, r, w}, w ? &w->state_ : &own};
  if (wait(me)) return true;
  lock_order::released(this);
  return false;
}

bool TwoStateLock::wait(Waiter& me) {
  *me.state = kWaiting;
  {
    MutexLock l(mutex_);
    word_.fetch_or(kQueued);
    queue_.push_back(&me);
    grant();  // whoever held it may have left before it could see QUEUED
    if (*me.state == kGranted) return *me.state = kIdle, true;
    if (me.wound) {
      for (const Holder& h : named_) {
        if (h.wound && me.wound->older(*h.wound)) h.wound->wound();
      }
      if (me.wound->wounded_) settle(*me.state, kWounded);
    }
  }
  PMFS_PAUSE_POINT("two_state:asleep");
  me.state->wait(kWaiting);
  MutexLock l(mutex_);  // not before whoever settled it is done with it
  const bool granted = me.state->exchange(kIdle) == kGranted;
  if (!granted) {
    ++me.wound->times_wounded_;
    queue_.remove(&me);
    grant();  // those behind it
  }
  return granted;
}

bool TwoStateLock::TryLock(LockSide side, PageRange r, WoundTicket* w) {
  const Holder me{side, r, w};
  if (side == LockSide::kAdd && !w) {
    if (!try_add()) return false;
  } else {
    MutexLock l(mutex_);
    if (!queue_.empty()) return false;
    // QUEUED keeps those off who come without the mutex.
    word_.fetch_or(kQueued);
    const bool in = fits(me);
    if (in) admit(me);
    word_.fetch_and(~kQueued);
    if (!in) return false;
  }
  lock_order::acquired(this, LockRank::kSchemeLock, key_, name_, false, r.first.v);
  return true;
}

void TwoStateLock::Unlock(LockSide side, PageRange r, WoundTicket* w) {
  if (side == LockSide::kAdd && !w) {
    const uint64_t left = word_.fetch_sub(kAddOne) - kAddOne;
    if ((left & kQueued) && (left & (kBlockOne - 1)) == kQueued) {
      MutexLock l(mutex_);
      grant();
    }
  } else {
    MutexLock l(mutex_);
    named_.erase(std::find_if(named_.begin(), named_.end(), [&](const Holder& h) {
      return h.side == side && h.range == r && h.wound == w;
    }));
    word_.fetch_sub(one(side));
    grant();
  }
  lock_order::released(this);
}

unsigned TwoStateLock::waiters() const {
  MutexLock l(mutex_);
  return static_cast<unsigned>(queue_.size());
}

}  // namespace pmfs::exclusion
