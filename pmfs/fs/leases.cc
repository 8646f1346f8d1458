#include "pmfs/fs/leases.h"

#include <time.h>

#include <algorithm>
#include <limits>

#include "pmfs/base/lock_order.h"
#include "pmfs/base/pause.h"
#include "pmfs/base/sys.h"

namespace pmfs {

namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

void sleep_until(int64_t ns) {
  for (int64_t left; (left = ns - sys().monotonic_ns()) > 0;) {
    const timespec t{0, std::min<int64_t>(left, 10'000'000)};
    ::nanosleep(&t, nullptr);
  }
}

}  // namespace

bool Leases::begin() {
  if (!open_.load(std::memory_order_relaxed)) {
    const int64_t quiet_until = quiet_until_ns_.load(std::memory_order_relaxed);
    if (quiet_until == kNever) return false;
    const int64_t now = sys().monotonic_ns();
    if (now < quiet_until) return false;
    reopen(now);
  }
  under_way_.fetch_add(1);
  if (open_.load()) return true;
  under_way_.fetch_sub(1);
  return false;
}

void Leases::end() {
  last_answer_ns_.store(sys().monotonic_ns());
  under_way_.fetch_sub(1);
}

void Leases::reopen(int64_t now_ns) {
  MutexLock l(mutex_);
  if (closing_ || outsiders_ != 0 || holders_.size() != 1 || now_ns < quiet_until_ns_.load()) return;
  open_.store(true);
}

Leases::Outsider Leases::enter() {
  lock_order::assert_none_held("entering beside a mount");
  {
    MutexLock l(mutex_);
    while (closing_) closed_.Wait(mutex_);
    ++outsiders_;
    quiet_until_ns_.store(kNever);
    if (!open_.load()) return Outsider(this);
    closing_ = true;
  }
  close();
  return Outsider(this);
}

// Who is here is alone: closing_ is set.
void Leases::close() {
  open_.store(false);
  PMFS_PAUSE_POINT("leases:closing");
  std::vector<Holder*> holders;
  {
    MutexLock l(mutex_);
    holders = holders_;  // none of them goes while closing_ is set
  }
  if (options_.wait) {
    while (under_way_.load() != 0) sleep_until(sys().monotonic_ns() + 20'000);
    for (Holder* h : holders) h->take_back();
    const int64_t last = last_answer_ns_.load();
    if (last != 0) sleep_until(last + options_.lease_ns + kSlackNs);
  }
  MutexLock l(mutex_);
  closing_ = false;
  closed_.SignalAll();
}

void Leases::leave() {
  MutexLock l(mutex_);
  if (--outsiders_ == 0) quiet_until_ns_.store(sys().monotonic_ns() + kQuietNs);
}

void Leases::add(Holder& h) {
  bool was_open;
  {
    MutexLock l(mutex_);
    while (closing_) closed_.Wait(mutex_);
    holders_.push_back(&h);
    was_open = open_.load();
    closing_ = was_open;
  }
  if (was_open) close();
}

void Leases::remove(Holder& h) {
  MutexLock l(mutex_);
  while (closing_) closed_.Wait(mutex_);
  std::erase(holders_, &h);
  if (holders_.empty()) open_.store(false);
}

}  // namespace pmfs
