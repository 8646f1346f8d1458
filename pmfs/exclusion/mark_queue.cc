#include "pmfs/exclusion/mark_queue.h"

namespace pmfs::exclusion {

void MarkQueue::Turn::link() {
  next_ = queue_.first_;
  queue_.first_ = this;
}

void MarkQueue::Turn::leave() {
  MutexLock l(queue_.mutex_);
  Turn** at = &queue_.first_;
  while (*at != this) at = &(*at)->next_;
  *at = next_;
  granted_ = false;
  queue_.changed_.SignalAll();
}

bool MarkQueue::turn_within(PageRange r) const {
  for (const Turn* t = first_; t; t = t->next_) {
    if (t->granted_ && r.contains(t->page_)) return true;
  }
  return false;
}

bool MarkQueue::let_pass(PageRange r, Wait wait) {
  MutexLock l(mutex_);
  while (turn_within(r)) {
    if (wait == Wait::kNoWait) return false;
    changed_.Wait(mutex_);
  }
  return true;
}

void MarkQueue::grant(PageRange r) {
  MutexLock l(mutex_);
  for (Turn* t = first_; t; t = t->next_) {
    if (t->granted_ || !r.contains(t->page_)) continue;
    t->granted_ = true;
    t->cv_.Signal();
  }
  changed_.SignalAll();
}

}  // namespace pmfs::exclusion
