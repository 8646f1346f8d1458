#include "lib/holdings.h"

#include <sys/mman.h>

#include <cerrno>
#include <climits>

#include "lib/memory_calls.h"
#include "pmfs/base/error.h"
#include "pmfs/proto/ring.h"

namespace pmfs {
namespace {
constexpr int64_t kRecheckNs = 1'000'000'000;
}

template <class T>
T* SlotList<T>::take(const T& value) {
  MutexLock l(mutex_);
  if (free_ == nullptr) {
    void* p = kernel::mmap(nullptr, kChunkBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) fail(ENOMEM, "no memory for the list of open files and mappings");
    auto* c = static_cast<Chunk*>(p);  // zero: nothing is used
    for (T& t : c->slots) {
      t.next_free = free_;
      free_ = &t;
    }
    c->next = chunks_;
    chunks_ = c;
  }
  T* t = free_;
  free_ = t->next_free;
  *t = value;
  t->used = true;
  return t;
}

template <class T>
void SlotList<T>::drop(T* slot) {
  if (slot == nullptr) return;
  MutexLock l(mutex_);
  slot->used = false;
  slot->next_free = free_;
  free_ = slot;
}

template class SlotList<HeldFile>;
template class SlotList<HeldMap>;

void Holdings::enter() {
  for (;;) {
    uint32_t v = gate_.load(std::memory_order_seq_cst);
    if ((v & kClosed) != 0)
      proto::futex_wait(&gate_, v, kRecheckNs);
    else if (gate_.compare_exchange_weak(v, v + 1, std::memory_order_seq_cst))
      return;
  }
}

void Holdings::leave() {
  if (gate_.fetch_sub(1, std::memory_order_seq_cst) == (kClosed | 1)) proto::futex_wake(&gate_, INT_MAX);
}

void Holdings::close() {
  gate_.fetch_or(kClosed, std::memory_order_seq_cst);
  for (uint32_t v; (v = gate_.load(std::memory_order_seq_cst)) != kClosed;) proto::futex_wait(&gate_, v, kRecheckNs);
}

void Holdings::open() {
  gate_.fetch_and(~kClosed, std::memory_order_seq_cst);
  proto::futex_wake(&gate_, INT_MAX);
}

}  // namespace pmfs
