#include "pmfs/fs/quarantine.h"

#include <algorithm>
#include <utility>

namespace pmfs {

Quarantine::Hold::~Hold() {
  if (answered && !quarantine.abandoned_.load()) answered();
  quarantine.ended(*this);
}

std::shared_ptr<Quarantine::Hold> Quarantine::begin(Ino ino, std::function<void()> answered) {
  MutexLock l(mutex_);
  std::shared_ptr<Hold> h(new Hold(*this, ino, ++last_, std::move(answered)));
  files_[to_u64(ino)].live.insert(h->id);
  live_.fetch_add(1);
  return h;
}

void Quarantine::ended(const Hold& h) {
  std::vector<std::function<void()>> due;  // called outside the lock
  {
    MutexLock l(mutex_);
    auto it = files_.find(to_u64(h.ino));
    File& f = it->second;
    f.live.erase(h.id);
    live_.fetch_sub(1);
    const uint64_t oldest = f.live.empty() ? ~uint64_t{0} : *f.live.begin();
    std::erase_if(f.waiters, [&](Waiter& w) {
      if (w.up_to >= oldest) return false;
      due.push_back(std::move(w.then));
      return true;
    });
    if (f.live.empty()) files_.erase(it);
    changed_.SignalAll();
  }
  for (auto& then : due) then();
}

bool Quarantine::when_idle(Ino ino, std::function<void()> then) {
  MutexLock l(mutex_);
  auto it = files_.find(to_u64(ino));
  if (it == files_.end()) return false;
  it->second.waiters.push_back({*it->second.live.rbegin(), std::move(then)});
  return true;
}

void Quarantine::wait(Ino ino) {
  MutexLock l(mutex_);
  auto it = files_.find(to_u64(ino));
  if (it == files_.end()) return;
  const uint64_t up_to = *it->second.live.rbegin();
  for (;;) {
    it = files_.find(to_u64(ino));
    if (it == files_.end() || *it->second.live.begin() > up_to) return;
    changed_.Wait(mutex_);
  }
}

}  // namespace pmfs
