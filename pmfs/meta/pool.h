// A thin RAII layer over libpmemobj's C API, with libpmemobj-cpp's names and idioms, so that changing over to
// that library is mechanical. Two deliberate differences:
//   - a persistent_ptr is 8 bytes (an offset) and is dereferenced through its pool: index nodes hold twice
//     as many, and a pool maps at any address;
//   - every failure is a pmfs::Error; no setjmp, no abort callbacks.
#pragma once

#include <libpmemobj.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "pmfs/base/error.h"

namespace pmfs::meta {

// The pool has no room for an allocation or a log. What Ballast and the retry in StoreImpl::run() catch.
class PoolFull : public Error {
 public:
  PoolFull() : Error(ENOSPC, "the metadata pool is full: remove files, or make the volume with a larger one") {}
};

class ShortLog;

// Objects of these sizes have allocation classes of their own.
inline constexpr size_t kPageBytes = 4096, kLargeBytes = 248 << 10;

template <class T>
struct persistent_ptr {
  uint64_t off = 0;
  explicit operator bool() const { return off != 0; }
  bool operator==(const persistent_ptr&) const = default;
};

class pool_base {
 public:
  // Makes a file of `bytes`, all allocated (EEXIST if there is one, ENOSPC), and a pool in it.
  static pool_base create(const std::filesystem::path& path, const std::string& layout, size_t bytes);
  // EBUSY: open elsewhere. EUCLEAN: not such a pool, or damaged. ENOENT, EACCES.
  static pool_base open(const std::filesystem::path& path, const std::string& layout);
  ~pool_base();
  pool_base(pool_base&& o) noexcept
      : pop_(std::exchange(o.pop_, nullptr)),
        base_(o.base_),
        looks_(std::move(o.looks_)),
        always_(o.always_),
        seals_(o.seals_),
        short_log_(std::move(o.short_log_)),
        last_(o.last_),
        id_(o.id_),
        page_class_(o.page_class_),
        large_class_(o.large_class_) {}
  pool_base& operator=(pool_base&&) = delete;

  // The root object, zeroed the first time. Never smaller than asked for; nullptr if it can't be that large.
  void* root(size_t bytes);
  size_t root_size() const;
  PMEMobjpool* handle() const { return pop_; }

  template <class T>
  T* direct(persistent_ptr<T> p) const {
    if (p.off > last_) [[unlikely]] wild(p.off);
    return reinterpret_cast<T*>(base_ + p.off);
  }
  template <class T>
  persistent_ptr<T> pptr(const T* p) const {
    return {static_cast<uint64_t>(reinterpret_cast<const std::byte*>(p) - base_)};
  }
  PMEMoid oid(uint64_t off) const { return {id_, off}; }
  void persist(const void* p, size_t bytes) const;

  // What this process has looked at and found in order, or made itself: one bit for each 64 bytes, the least an object
  // has.
  bool known(uint64_t off) const {
    return (looks_[off / kLook / 64].load(std::memory_order_relaxed) >> (off / kLook % 64) & 1) != 0;
  }
  void set_known(uint64_t off) const {
    looks_[off / kLook / 64].fetch_or(uint64_t{1} << (off / kLook % 64), std::memory_order_relaxed);
  }

  // A range that a transaction snapshots as a whole when it first changes some of it, and seals (a checksum) before it
  // commits. The sum of all seals is in it.
  using Sealer = void (*)(const pool_base&, void*);
  void seal_always(void* p, size_t bytes, Sealer s) { always_ = {static_cast<std::byte*>(p), bytes, s}; }
  // Where the sum of all seals is: a transaction that made some anew adds the difference before it commits.
  void sum_seals(uint64_t* at) { seals_ = at; }
  // Transactions are short ones from here on, if they fit.
  void use_short_log(std::shared_ptr<ShortLog> l) { short_log_ = std::move(l); }
  uint64_t allocated_bytes() const;  // by libpmemobj's own statistics

 private:
  friend class transaction;
  static constexpr uint64_t kLook = 64;
  struct Sealed {
    std::byte* base = nullptr;
    size_t bytes = 0;
    Sealer seal = nullptr;
  };
  pool_base(PMEMobjpool* pop, size_t bytes);
  [[noreturn]] static void wild(uint64_t off);  // EUCLEAN: a pointer that leads out of the pool
  PMEMobjpool* pop_;
  std::byte* base_ = nullptr;
  std::unique_ptr<std::atomic<uint64_t>[], void (*)(void*)> looks_;
  Sealed always_;
  uint64_t* seals_ = nullptr;
  std::shared_ptr<ShortLog> short_log_;
  uint64_t last_;  // no object begins behind it
  uint64_t id_ = 0;
  unsigned page_class_ = 0, large_class_ = 0;  // 0: the library's own
};

// Gives the zero parts of a closed pool's file back to its file system: space is used as it is touched then,
// and a file system that runs full is SIGBUS for whoever touches more.
void punch_zeros(const std::filesystem::path& path);

struct LogFull {};  // of a short transaction; not an Error: nobody but run() is to catch it

// Memory of the pool, lent to one of libpmemobj's transactions so that it allocates none for its logs. What libpmemobj allocates
// for them, it keeps until the pool is opened again, and gives back then without taking it off allocated_bytes().
struct lent_logs {
  void* snapshots = nullptr;
  void* intents = nullptr;
  size_t snapshots_bytes = 0, intents_bytes = 0;
  size_t min_allocation = 0;  // not 0: a long one at once, and allocations rounded up to this: the size class of the reserve
};

class transaction {
 public:
  using logs = lent_logs;

  // Runs `f` in a transaction: all of its stores to snapshotted ranges and its allocations are durable when
  // run() returns; none of them is there if `f` throws (passed on) or the power fails before. One that is too long for
  // the short log, or needs more memory than there is, is undone and run again, as one of libpmemobj's.
  template <class F>
  static void run(pool_base& pop, F&& f, const logs& l = {}) {
    if (l.min_allocation == 0 && run_short(pop, f)) return;
    begin(pop, l);
    try {
      f();
      seal();
    } catch (...) {
      abort();
      throw;
    }
    commit();
  }

  // Call before storing to `n` Ts at `addr`. Repeats and overlaps are cheap.
  template <class T>
  static void snapshot(T* addr, size_t n = 1) {
    static_assert(std::is_trivially_copyable_v<T>);
    add_range(addr, n * sizeof(T));
  }
  // Snapshots taken while one lives are durable, with one fence, when it goes; until then no store to what they cover.
  class together {
   public:
    together();
    ~together();
    together(const together&) = delete;
    together& operator=(const together&) = delete;
  };
  // Has `s` run on `object` when all of the transaction's stores are done, if it gets so far. What `s` stores to must
  // have been snapshotted, and must not be freed by the transaction. Repeats are cheap.
  static void seal_later(void* object, pool_base::Sealer s);
  // The object at `off` has another checksum now; 0: not made yet, or freed.
  static void resealed(uint64_t off, uint32_t was, uint32_t is);

 private:
  template <class F>
  static bool run_short(pool_base& pop, F&& f) {
    if (!begin_short(pop)) return false;
    try {
      f();
      seal();
      if (commit_short()) return true;
    } catch (const LogFull&) {
    } catch (const PoolFull&) {
    } catch (...) {
      abort_short();
      throw;
    }
    abort_short();
    return false;
  }
  static void start(pool_base& pop, ShortLog* log);
  static bool begin_short(pool_base& pop);
  static bool commit_short();
  static void abort_short();
  static void begin(pool_base& pop, const logs& l);
  static void seal();
  static void commit();
  static void abort();
  static void add_range(const void* p, size_t bytes);
  static void log(const void* p, size_t bytes);
};

// A persistent scalar that snapshots itself when assigned to in a transaction.
template <class T>
class p {
 public:
  p() = default;
  p(const p&) = default;
  p& operator=(const p&) = delete;  // would store without a snapshot
  p& operator=(const T& v) {
    transaction::snapshot(&value_);
    value_ = v;
    return *this;
  }
  p& operator+=(const T& v) { return *this = value_ + v; }
  p& operator-=(const T& v) { return *this = value_ - v; }
  const T& get() const { return value_; }
  operator const T&() const { return value_; }
  const T* operator->() const { return &value_; }

 private:
  T value_;
};

// In a transaction: zeroed memory for a T that ends `bytes` behind its start (flexible arrays).
uint64_t allocate(size_t bytes, uint64_t type);
void release(pool_base& pop, uint64_t off);

template <class T>
persistent_ptr<T> make_persistent(size_t bytes = sizeof(T)) {
  return {allocate(bytes, T::kType)};
}
template <class T>
void delete_persistent(pool_base& pop, persistent_ptr<T> ptr) {
  if constexpr (requires(T* t) { t->checksum; })
    transaction::resealed(ptr.off, static_cast<uint32_t>(pop.direct(ptr)->checksum), 0);
  release(pop, ptr.off);
}

}  // namespace pmfs::meta
