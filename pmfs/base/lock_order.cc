#include "pmfs/base/lock_order.h"

#ifdef PMFS_DEBUG_LOCKS

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace pmfs::lock_order {
namespace {

struct Held {
  const void* lock;
  const char* name;
  uint64_t key, minor;
  LockRank rank;
};

// A plain array, so that a lock taken by another thread_local's destructor at thread exit still finds it alive.
// The depth covers the largest fault-around, with an entry for each page.
struct Stack {
  static constexpr unsigned kDepth = 4096 + 256;
  Held held[kDepth];
  unsigned count;
};
thread_local Stack t_stack;

void print_and_abort(const char* message) {
  fputs(message, stderr);
  abort();
}

std::atomic<Handler> g_handler{print_and_abort};

std::string describe(const char* name, LockRank rank, uint64_t key, uint64_t minor) {
  return fmt::format("\"{}\" (rank {}, key {}:{})", name, static_cast<unsigned>(rank), key, minor);
}

std::string describe(const Held& h) { return describe(h.name, h.rank, h.key, h.minor); }

void violation(std::string message) {
  message += "\n  held, outermost first:";
  if (t_stack.count == 0) message += " nothing";
  for (unsigned i = 0; i < t_stack.count; ++i) message += fmt::format("\n    {}", describe(t_stack.held[i]));
  message += '\n';
  g_handler.load()(message.c_str());
}

// Against every lock held, not only the last: what a try-acquire put on the stack needs no order itself.
void check(const void* lock, LockRank rank, uint64_t key, const char* name, uint64_t minor) {
  for (unsigned i = 0; i < t_stack.count; ++i) {
    const Held& h = t_stack.held[i];
    if (h.lock == lock) {
      return violation(fmt::format("lock order: {} is already held by this thread", describe(name, rank, key, minor)));
    }
    if (h.rank > rank || (h.rank == rank && std::pair(h.key, h.minor) >= std::pair(key, minor))) {
      return violation(fmt::format("lock order: {} may not be acquired while {} is held",
                                   describe(name, rank, key, minor), describe(h)));
    }
  }
}

}  // namespace

void about_to_block(const void* lock, LockRank rank, uint64_t key, const char* name, uint64_t minor) {
  check(lock, rank, key, name, minor);
}

void acquired(const void* lock, LockRank rank, uint64_t key, const char* name, bool may_block, uint64_t minor) {
  if (may_block) check(lock, rank, key, name, minor);
  if (t_stack.count == Stack::kDepth) {
    return violation(fmt::format("lock order: no room to record {}", describe(name, rank, key, minor)));
  }
  t_stack.held[t_stack.count++] = {lock, name, key, minor, rank};
}

void released(const void* lock) {
  for (unsigned i = t_stack.count; i-- > 0;) {
    if (t_stack.held[i].lock != lock) continue;
    for (; i + 1 < t_stack.count; ++i) t_stack.held[i] = t_stack.held[i + 1];
    --t_stack.count;
    return;
  }
  violation(fmt::format("lock order: {} is released by a thread that doesn't hold it", lock));
}

bool held(const void* lock) {
  for (unsigned i = 0; i < t_stack.count; ++i) {
    if (t_stack.held[i].lock == lock) return true;
  }
  return false;
}

bool holds_any(LockRank rank) {
  for (unsigned i = 0; i < t_stack.count; ++i) {
    if (t_stack.held[i].rank == rank) return true;
  }
  return false;
}

void assert_none_held(const char* where) {
  if (t_stack.count != 0) violation(fmt::format("lock order: {}: no lock may be held here", where));
}

Handler set_handler(Handler h) { return g_handler.exchange(h ? h : print_and_abort); }

}  // namespace pmfs::lock_order

#endif  // PMFS_DEBUG_LOCKS
