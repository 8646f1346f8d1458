#include "pmfs/meta/pool.h"

#include "pmfs/meta/hash.h"
#include "pmfs/meta/short_log.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

namespace pmfs::meta {
namespace {

constexpr const char* kForce = "PMEM_IS_PMEM_FORCE";

// Cache-line flushes reach what the file is made of.
bool is_memory(const std::filesystem::path& path) {
  struct statfs fs;
  if (statfs(path.c_str(), &fs) != 0 || fs.f_type == TMPFS_MAGIC) return true;  // no file: open() says so
  int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return true;
  void* p = mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
  ::close(fd);
  if (p == MAP_FAILED) return false;
  munmap(p, kPageBytes);
  return true;
}

// Before the library maps its first pool. A pool on tmpfs is memory: cache-line flushes are all there is to do, msync
// would only cost time. DAX the library finds out by itself; anywhere else it calls msync. It decides once for a
// process. A user may set the variable otherwise.
void configure_library(const std::filesystem::path& path) {
  const bool memory = is_memory(path);
  static std::once_flag once;
  static bool forced = false;
  std::call_once(once, [memory] {
    if (memory && getenv(kForce) == nullptr) {
      setenv(kForce, "1", 0);
      forced = true;
    }
    int off = 0;
    pmemobj_ctl_set(nullptr, "sds.at_create", &off);  // no shutdown state: tmpfs has no unsafe-shutdown counter
    // One arena for all threads: transactions are serialised anyway, and with an arena each, one could find
    // the pool full while another has room.
    auto arenas = POBJ_ARENAS_ASSIGNMENT_GLOBAL;
    pmemobj_ctl_set(nullptr, "heap.arenas_assignment_type", &arenas);
  });
  if (forced && !memory)
    fail(ENOTSUP, "{}: is on a file system that needs msync, and this process has a pool in memory already; use another process",
         path.string());
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

constexpr size_t kLeastObject = 64;

struct Running {  // the transaction of this thread
  const pool_base* pop = nullptr;
  ShortLog* log = nullptr;  // null: libpmemobj's own transaction
  size_t least = 0;  // how it is to allocate
  uint64_t page_class = 0, large_class = 0;
  bool root_changed = false;  // what is always sealed
  uint64_t seals = 0;         // what is to be added to their sum
  std::vector<std::pair<void*, pool_base::Sealer>> to_seal;
};
thread_local Running t_running;

[[noreturn]] void fail_tx(int err) {
  if (err == ENOMEM) throw PoolFull();
  fail(err == 0 ? EIO : err, "metadata transaction: {}", pmemobj_errormsg());
}

}  // namespace

pool_base pool_base::create(const std::filesystem::path& path, const std::string& layout, size_t bytes) {
  int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) {
    int err = errno;
    fail(err, "{}: cannot create the metadata pool: {}", path.string(), std::strerror(err));
  }
  // Where a store to what is not allocated can fail, all of it is allocated now; a tmpfs gives it as it is used.
  struct statfs fs;
  const bool tmpfs = fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
  int err = tmpfs ? (ftruncate(fd, static_cast<off_t>(bytes)) != 0 ? errno : 0) : posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  ::close(fd);
  try {
    configure_library(path);
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
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
  return pool_base(pop, bytes);
}

void punch_zeros(const std::filesystem::path& path) {
  int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  constexpr size_t kChunk = 64 << 10;
  std::vector<char> buffer(kChunk), zeros(kChunk);
  off_t at = 0;
  for (ssize_t n; (n = pread(fd, buffer.data(), kChunk, at)) > 0; at += n)
    if (std::memcmp(buffer.data(), zeros.data(), static_cast<size_t>(n)) == 0)
      fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, n);
  ::close(fd);
}

pool_base pool_base::open(const std::filesystem::path& path, const std::string& layout) {
  configure_library(path);
  // The library reads the first page whatever the size, and takes a file that begins otherwise for a list of
  // other files to open.
  char signature[8] = {};
  struct stat st;
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &st) != 0) {
    int err = errno;
    if (fd >= 0) ::close(fd);
    fail_open(path, err);
  }
  bool pool = S_ISREG(st.st_mode) && static_cast<size_t>(st.st_size) >= PMEMOBJ_MIN_POOL &&
              pread(fd, signature, sizeof(signature), 0) == sizeof(signature) &&
              std::memcmp(signature, "PMEMOBJ", sizeof(signature)) == 0;
  ::close(fd);
  if (!pool) fail(EUCLEAN, "{}: not a pmfs metadata pool, or truncated", path.string());
  PMEMobjpool* pop = pmemobj_open(path.c_str(), layout.c_str());
  if (pop == nullptr) fail_open(path, errno);
  return pool_base(pop, static_cast<size_t>(st.st_size));
}

void pool_base::wild(uint64_t off) {
  fail(EUCLEAN, "the metadata is damaged: a pointer to {:#x} leads out of the pool; see pmfs fsck", off);
}

pool_base::pool_base(PMEMobjpool* pop, size_t bytes) : pop_(pop), looks_(nullptr, std::free), last_(bytes - kLeastObject) {
  // Zero pages until they are needed.
  looks_.reset(static_cast<std::atomic<uint64_t>*>(
      std::calloc(bytes / kLook / 64 + 1, sizeof(std::atomic<uint64_t>))));
  if (!looks_) fail(ENOMEM, "no memory for the looks at {} bytes of metadata", bytes);
  enum pobj_stats_enabled stats = POBJ_STATS_ENABLED_PERSISTENT;
  pmemobj_ctl_set(pop, "stats.enabled", &stats);
  // Pages without a header, 63 in one of the heap's 256 KiB chunks, and large objects that fill one. The
  // library's own classes for such sizes take up to 15 chunks at a time, all of a small pool.
  pobj_alloc_class_desc pages{kPageBytes, 0, 63, POBJ_HEADER_NONE, 0};
  if (pmemobj_ctl_set(pop, "heap.alloc_class.new.desc", &pages) == 0) page_class_ = pages.class_id;
  pobj_alloc_class_desc large{kLargeBytes, 0, 1, POBJ_HEADER_NONE, 0};
  if (pmemobj_ctl_set(pop, "heap.alloc_class.new.desc", &large) == 0) large_class_ = large.class_id;
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

bool transaction::begin_short(pool_base& pop) {
  if (!pop.short_log_) return false;
  start(pop, pop.short_log_.get());
  t_running.log->begin();
  return true;
}

bool transaction::commit_short() { return t_running.log->commit(); }
void transaction::abort_short() { t_running.log->abort(); }

transaction::together::together() {
  if (t_running.log != nullptr) t_running.log->hold_fence();
}
transaction::together::~together() {
  if (t_running.log != nullptr) t_running.log->fence();
}

void transaction::start(pool_base& pop, ShortLog* log) {
  t_running.pop = &pop;
  t_running.log = log;
  t_running.least = 0;
  t_running.page_class = pop.page_class_;
  t_running.large_class = pop.large_class_;
  t_running.root_changed = false;
  t_running.seals = 0;
  t_running.to_seal.clear();
}

void transaction::begin(pool_base& pop, const logs& l) {
  start(pop, nullptr);
  t_running.least = l.min_allocation;
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

void transaction::seal_later(void* object, pool_base::Sealer s) {
  for (const auto& have : t_running.to_seal)
    if (have.first == object) return;
  t_running.to_seal.emplace_back(object, s);
}

void transaction::resealed(uint64_t off, uint32_t was, uint32_t is) {
  t_running.seals += seal_weight(off, is) - seal_weight(off, was);
}

void transaction::seal() {
  for (const auto& [object, seal] : t_running.to_seal) seal(*t_running.pop, object);
  if (t_running.seals != 0) {
    if (!t_running.root_changed) log(t_running.pop->seals_, sizeof(uint64_t));
    *t_running.pop->seals_ += t_running.seals;
  }
  if (t_running.root_changed) t_running.pop->always_.seal(*t_running.pop, t_running.pop->always_.base);
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

void transaction::log(const void* p, size_t bytes) {
  if (t_running.log != nullptr) return t_running.log->add(p, bytes);
  int err = pmemobj_tx_xadd_range_direct(p, bytes, POBJ_XADD_NO_ABORT);
  if (err != 0) fail_tx(err);
}

void transaction::add_range(const void* p, size_t bytes) {
  const pool_base::Sealed& always = t_running.pop->always_;
  const auto* at = static_cast<const std::byte*>(p);
  if (at < always.base + always.bytes && at + bytes > always.base) {
    if (!t_running.root_changed) {
      log(always.base, always.bytes);
      t_running.root_changed = true;
    }
    if (at >= always.base && at + bytes <= always.base + always.bytes) return;
  }
  log(p, bytes);
}

uint64_t allocate(size_t bytes, uint64_t type) {
  uint64_t flags = POBJ_XALLOC_ZERO | POBJ_XALLOC_NO_ABORT;
  if (bytes == kPageBytes) flags |= POBJ_CLASS_ID(t_running.page_class);
  if (bytes == kLargeBytes) flags |= POBJ_CLASS_ID(t_running.large_class);
  if (t_running.log != nullptr) {
    const uint64_t off = t_running.log->allocate(bytes, type, flags & ~uint64_t{POBJ_XALLOC_NO_ABORT});
    if (off == 0) throw PoolFull();
    return off;
  }
  PMEMoid oid = pmemobj_tx_xalloc(std::max(bytes, t_running.least), type, flags);
  if (oid.off == 0) fail_tx(errno);
  return oid.off;
}

void release(pool_base& pop, uint64_t off) {
  if (t_running.log != nullptr) return t_running.log->release(pop.oid(off));
  int err = pmemobj_tx_xfree(pop.oid(off), POBJ_XFREE_NO_ABORT);
  if (err != 0) fail_tx(err);
}

}  // namespace pmfs::meta
