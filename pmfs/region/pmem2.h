// libpmem2's functions for a region: chosen by the CPU and by what a store there needs to be durable.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <libpmem2.h>

#include "pmfs/base/types.h"

namespace pmfs {

// Of one mapping by libpmem2, which lives as long as this. Any thread.
class Pmem2 {
 public:
  enum class Need : uint8_t { kWhatItSays, kForced };  // kForced: cache lines, whatever libpmem2 would say (tmpfs)
  // Maps the first `bytes` of the file (a multiple of a device's alignment). Throws Error(EIO) naming `path`; ENOTSUP if a
  // store would need more than a cache-line flush to be durable.
  Pmem2(int fd, const std::string& path, size_t bytes, Need need);
  Pmem2(const Pmem2&) = delete;
  Pmem2& operator=(const Pmem2&) = delete;

  void flush(const void* p, size_t bytes) const { flush_(p, bytes); }
  void drain() const { drain_(); }
  void* memcpy_nodrain(void* dst, const void* src, size_t bytes) const { return memcpy_(dst, src, bytes, PMEM2_F_MEM_NODRAIN); }
  void* memset_nodrain(void* dst, int c, size_t bytes) const { return memset_(dst, c, bytes, PMEM2_F_MEM_NODRAIN); }
  std::string_view granularity() const { return granularity_; }  // "byte", "cache line"

 private:
  struct Delete {
    void operator()(pmem2_map* m) const { pmem2_map_delete(&m); }
  };
  std::unique_ptr<pmem2_map, Delete> map_;
  pmem2_flush_fn flush_ = nullptr;
  pmem2_drain_fn drain_ = nullptr;
  pmem2_memcpy_fn memcpy_ = nullptr;
  pmem2_memset_fn memset_ = nullptr;
  std::string_view granularity_;
};

// Where the memory is and what is wrong with it, as libpmem2 finds it.
struct Pmem2Facts {
  int numa_node = -1;       // -1: not known
  std::vector<Extent> bad;  // known bad blocks of the file or device, in order, whole blocks
  std::string bad_unknown;  // why `bad` could not be read; empty: it could
};
Pmem2Facts pmem2_facts(int fd);

}  // namespace pmfs
