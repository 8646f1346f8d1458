// What the exclusion tests share. Catch's macros are for the main thread only; other threads leave results behind.
#pragma once

#include <chrono>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "pmfs/exclusion/scheme.h"

namespace pmfs::exclusion {

// Waits for a state another thread is on its way to. The bound is for a hang; no test decides by it.
template <class F>
bool eventually(F&& state) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!state()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return true;
}

class Threads {
 public:
  ~Threads() { join(); }
  template <class F>
  void run(F&& f) {
    threads_.emplace_back(std::forward<F>(f));
  }
  void join() {
    for (std::thread& t : threads_) t.join();
    threads_.clear();
  }

 private:
  std::vector<std::thread> threads_;
};

inline PageRange pages(uint64_t first, uint64_t end) { return {Pgoff(first), Pgoff(end)}; }
inline PageRange from(uint64_t first) { return {Pgoff(first), kEndOfFile}; }

// Puts an entry there, as a fault would.
inline void put(LockEntryTree& t, uint64_t page, uint64_t pfn, unsigned order = 0, uint64_t flags = 0) {
  LockedEntry e = t.lock(Pgoff(page), order, Wait::kBlock);
  t.unlock(e, Entry::make(Pfn(pfn), order, flags));
}

// An inode under a scheme, and a fault on it as the file system makes it.
struct SchemeInode {
  explicit SchemeInode(const SchemeInfo& s, uint64_t ino = 1) : tree(ino), scheme(s.make(tree, ino)) {}
  unsigned waiters() const { return tree.waiters() + scheme->waiters(); }
  LockEntryTree tree;
  std::unique_ptr<Scheme> scheme;
};

struct Fault {
  Fault(SchemeInode& i, uint64_t page) : inode(i), page_(page) {}
  // Up to where blocks may be allocated. False (kNoWait): nothing is left behind.
  bool begin(Wait wait = Wait::kBlock) {
    for (;;) {
      const bool entered = inode.scheme->enter_fault(pages(page_, page_ + 1), wait, &ticket);
      if (entered) entry = inode.tree.lock(Pgoff(page_), 0, wait);
      if (entered && entry && inode.scheme->fault_locked(&ticket)) return true;
      if (entry) inode.tree.unlock(entry, entry.value);
      entry = {};
      if (entered) inode.scheme->leave_fault(&ticket);
      if (wait == Wait::kNoWait) return false;
      ++ticket.retries;
    }
  }
  void resolved() { inode.scheme->fault_resolved(&ticket); }
  bool end(Entry v) {
    const bool ours = inode.tree.unlock(entry, v);
    inode.scheme->leave_fault(&ticket);
    return ours;
  }
  SchemeInode& inode;
  FaultTicket ticket;
  LockedEntry entry;

 private:
  const uint64_t page_;
};

}  // namespace pmfs::exclusion
