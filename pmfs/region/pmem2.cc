#include "pmfs/region/pmem2.h"

#include <cerrno>
#include <cstdlib>

#include "pmfs/base/error.h"

namespace pmfs {

namespace {

struct Source {
  pmem2_source* s = nullptr;
  explicit Source(int fd) { rc = pmem2_source_from_fd(&s, fd); }
  ~Source() {
    if (s) pmem2_source_delete(&s);
  }
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  int rc;
};

std::string_view name_of(pmem2_granularity g) {
  switch (g) {
    case PMEM2_GRANULARITY_BYTE: return "byte";
    case PMEM2_GRANULARITY_CACHE_LINE: return "cache line";
    case PMEM2_GRANULARITY_PAGE: return "page";
  }
  return "unknown";
}

}  // namespace

Pmem2::Pmem2(int fd, const std::string& path, size_t bytes, Need need) {
  if (need == Need::kForced) ::setenv("PMEM2_FORCE_GRANULARITY", "CACHE_LINE", 1);
  else ::unsetenv("PMEM2_FORCE_GRANULARITY");
  Source source(fd);
  pmem2_config* config = nullptr;
  pmem2_map* map = nullptr;
  int rc = source.rc;
  if (rc == 0) rc = pmem2_config_new(&config);
  if (rc == 0) rc = pmem2_config_set_required_store_granularity(config, PMEM2_GRANULARITY_CACHE_LINE);
  if (rc == 0) rc = pmem2_config_set_length(config, bytes);
  if (rc == 0) rc = pmem2_map_new(&map, config, source.s);
  const std::string text = rc == 0 ? "" : pmem2_errormsg();
  if (config) pmem2_config_delete(&config);
  if (rc == PMEM2_E_GRANULARITY_NOT_SUPPORTED)
    fail(ENOTSUP, "region {}: a store there is durable only after msync; it must be memory that cache-line flushes reach (DAX)",
         path);
  if (rc != 0) fail(EIO, "region {}: libpmem2 can't map it: {}", path, text);
  map_.reset(map);
  flush_ = pmem2_get_flush_fn(map);
  drain_ = pmem2_get_drain_fn(map);
  memcpy_ = pmem2_get_memcpy_fn(map);
  memset_ = pmem2_get_memset_fn(map);
  granularity_ = name_of(pmem2_map_get_store_granularity(map));
}

Pmem2Facts pmem2_facts(int fd) {
  Pmem2Facts f;
  Source source(fd);
  if (source.rc != 0) {
    f.bad_unknown = pmem2_errormsg();
    return f;
  }
  if (pmem2_source_numa_node(source.s, &f.numa_node) != 0) f.numa_node = -1;
  pmem2_badblock_context* c = nullptr;
  if (pmem2_badblock_context_new(&c, source.s) != 0) {
    f.bad_unknown = pmem2_errormsg();
    return f;
  }
  pmem2_badblock b;
  int rc;
  while ((rc = pmem2_badblock_next(c, &b)) == 0) {
    const Pfn first(b.offset >> kBlockShift);
    const Extent e{first, blocks_for(b.offset + b.length) - first.v};
    if (!f.bad.empty() && f.bad.back().end() >= e.first) f.bad.back().count = e.end() - f.bad.back().first;
    else f.bad.push_back(e);
  }
  if (rc != PMEM2_E_NO_BAD_BLOCK_FOUND) f.bad_unknown = pmem2_errormsg();
  pmem2_badblock_context_delete(&c);
  return f;
}

}  // namespace pmfs
