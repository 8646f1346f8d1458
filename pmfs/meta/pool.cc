#include "pmfs/meta/pool.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace pmfs::meta {
namespace {

// Before the library maps its first pool. A pool on tmpfs is memory: cache-line flushes are all there is to
// do, msync would only cost time. A user may set either variable otherwise.
void configure_library() {
  static std::once_flag once;
  std::call_once(once, [] {
    setenv("PMEM_IS_PMEM_FORCE", "1", 0);
    int off = 0;
    pmemobj_ctl_set(nullptr, "sds.at_create", &off);  // no shutdown state: tmpfs has no unsafe-shutdown counter
  });
}

void enable_statistics(PMEMobjpool* pop) {
  enum pobj_stats_enabled v = POBJ_STATS_ENABLED_PERSISTENT;
  pmemobj_ctl_set(pop, "stats.enabled", &v);
}

[[noreturn]] void fail_open(const std::filesystem::path& path, int err) {
  switch (err) {
    case EAGAIN:  // == EWOULDBLOCK, from flock
    case EBUSY:
      fail(EBUSY, "{}: the volume is in use: another process has its metadata pool open", path.string());
    case ENOENT:
      fail(ENOENT, "{}: no such metadata pool", path.string());
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      fail(err, "{}: cannot open the metadata pool: {}", path.string(), std::strerror(err));
    default:
      fail(EUCLEAN, "{}: not a pmfs metadata pool, or damaged or truncated: {}", path.string(), pmemobj_errormsg());
  }
}

thread_local size_t t_min_allocation = 0;

[[noreturn]] void fail_tx(int err) {
  if (err == ENOMEM) throw PoolFull();
  fail(err == 0 ? EIO : err, "metadata transaction: {}", pmemobj_errormsg());
}

}  // namespace

pool_base pool_base::create(const std::filesystem::path& path, const std::string& layout, size_t bytes) {
  configure_library();
  int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) {
    int err = errno;
    fail(err, "{}: cannot create the metadata pool: {}", path.string(), std::strerror(err));
  }
  // Sparse, but with the part that every volume touches at once really there, so that a full tmpfs is ENOSPC
  // here. (libpmemobj, given a size, would allocate all of it.)
  int err = ftruncate(fd, static_cast<off_t>(bytes)) != 0 ? errno : posix_fallocate(fd, 0, 4 << 20);
  ::close(fd);
  PMEMobjpool* pop = nullptr;
  std::string detail;
  if (err == 0) {
    pop = pmemobj_create(path.c_str(), layout.c_str(), 0, 0600);
    if (pop == nullptr) {
      err = errno;
      detail = pmemobj_errormsg();
    }
  }
  if (pop == nullptr) {
    ::unlink(path.c_str());
    fail(err, "{}: cannot create a metadata pool of {} bytes: {}", path.string(), bytes,
         detail.empty() ? std::strerror(err) : detail);
  }
  enable_statistics(pop);
  return pool_base(pop);
}

pool_base pool_base::open(const std::filesystem::path& path, const std::string& layout) {
  configure_library();
  PMEMobjpool* pop = pmemobj_open(path.c_str(), layout.c_str());
  if (pop == nullptr) fail_open(path, errno);
  enable_statistics(pop);
  return pool_base(pop);
}

pool_base::~pool_base() {
  if (pop_ != nullptr) pmemobj_close(pop_);
}

size_t pool_base::root_size() const { return pmemobj_root_size(pop_); }

void* pool_base::root(size_t bytes) {
  PMEMoid oid = pmemobj_root(pop_, bytes);
  if (oid.off == 0) return nullptr;
  auto* p = static_cast<std::byte*>(pmemobj_direct(oid));
  base_ = p - oid.off;
  id_ = oid.pool_uuid_lo;
  return p;
}

void pool_base::persist(const void* p, size_t bytes) const { pmemobj_persist(pop_, p, bytes); }

uint64_t pool_base::allocated_bytes() const {
  uint64_t n = 0;
  pmemobj_ctl_get(pop_, "stats.heap.curr_allocated", &n);
  return n;
}

void transaction::begin(pool_base& pop, const logs& l) {
  t_min_allocation = l.min_allocation;
  int err = pmemobj_tx_begin(pop.handle(), nullptr, TX_PARAM_NONE);
  if (err == 0 && l.snapshots != nullptr) {
    err = pmemobj_tx_xlog_append_buffer(TX_LOG_TYPE_SNAPSHOT, l.snapshots, l.snapshots_bytes,
                                        POBJ_XLOG_APPEND_BUFFER_NO_ABORT);
    if (err == 0) {
      err = pmemobj_tx_xlog_append_buffer(TX_LOG_TYPE_INTENT, l.intents, l.intents_bytes,
                                          POBJ_XLOG_APPEND_BUFFER_NO_ABORT);
    }
  }
  if (err != 0) {
    if (pmemobj_tx_stage() != TX_STAGE_NONE) abort();
    fail_tx(err);
  }
}

void transaction::commit() {
  pmemobj_tx_commit();
  int err = pmemobj_tx_end();
  if (err != 0) fail_tx(err);
}

void transaction::abort() {
  if (pmemobj_tx_stage() == TX_STAGE_WORK) pmemobj_tx_abort(ECANCELED);
  pmemobj_tx_end();
}

void transaction::add_range(const void* p, size_t bytes) {
  int err = pmemobj_tx_xadd_range_direct(p, bytes, POBJ_XADD_NO_ABORT);
  if (err != 0) fail_tx(err);
}

uint64_t allocate(size_t bytes, uint64_t type) {
  PMEMoid oid = pmemobj_tx_xalloc(std::max(bytes, t_min_allocation), type, POBJ_XALLOC_ZERO | POBJ_XALLOC_NO_ABORT);
  if (oid.off == 0) fail_tx(errno);
  return oid.off;
}

void release(pool_base& pop, uint64_t off) {
  int err = pmemobj_tx_xfree(pop.oid(off), POBJ_XFREE_NO_ABORT);
  if (err != 0) fail_tx(err);
}

}  // namespace pmfs::meta
