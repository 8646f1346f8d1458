#include "lib/persist.h"

#include <libpmem2.h>
#include <sys/mman.h>

#include <cstdint>

#include "pmfs/pmfs.hpp"

namespace pmfs {
namespace {

constexpr size_t kLine = 64;

// Without libpmem2's choice (it failed to initialise): the oldest instructions that are right on the CPU.
void plain_drain() {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#elif defined(__aarch64__)
  asm volatile("dsb sy" ::: "memory");
#endif
}
void plain_flush(const void* p, size_t bytes) {
  const auto end = reinterpret_cast<uintptr_t>(p) + bytes;
  for (auto at = reinterpret_cast<uintptr_t>(p) & ~(kLine - 1); at < end; at += kLine) {
#if defined(__x86_64__)
    __builtin_ia32_clflush(reinterpret_cast<const void*>(at));
#elif defined(__aarch64__)
    asm volatile("dc cvac, %0" ::"r"(at) : "memory");
#endif
  }
}
void plain_persist(const void* p, size_t bytes) {
  plain_flush(p, bytes);
  plain_drain();
}

struct Functions {
  pmem2_persist_fn persist = plain_persist;
  pmem2_flush_fn flush = plain_flush;
  pmem2_drain_fn drain = plain_drain;
  // Both live as long as the process: libpmem2 1.12 does not forget a deleted mapping of this kind, and would refuse
  // another one at its address.
  void* page = MAP_FAILED;
  pmem2_map* map = nullptr;

  // The functions depend on the CPU and the granularity, not on the address: any mapping will do to ask for them.
  // Granularity "cache line", not what a tmpfs would report: the point is to execute what real pmem needs.
  Functions() {
    constexpr size_t kPage = 4096;
    page = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pmem2_source* source = nullptr;
    if (page == MAP_FAILED || pmem2_source_from_anon(&source, kPage) != 0) return;
    if (pmem2_map_from_existing(&map, source, page, kPage, PMEM2_GRANULARITY_CACHE_LINE) == 0) {
      persist = pmem2_get_persist_fn(map);
      flush = pmem2_get_flush_fn(map);
      drain = pmem2_get_drain_fn(map);
    }
    pmem2_source_delete(&source);
  }
};

const Functions& functions() {
  static const Functions f;
  return f;
}

}  // namespace

void choose_persist_functions() { functions(); }

void persist(const void* p, size_t bytes) { functions().persist(p, bytes); }
void flush(const void* p, size_t bytes) { functions().flush(p, bytes); }
void drain() { functions().drain(); }

}  // namespace pmfs
