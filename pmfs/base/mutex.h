// Mutex and SharedMutex: std's, with a rank for the order checker and clang's annotations.
//
//   Mutex state   | Lock()            | TryLock()   | Unlock()
//   free          | -> held by caller | true, held  | error
//   held by self  | error (checker)   | error       | -> free
//   held by other | sleeps            | false       | error
//
// Thread-safe. Never held while waiting for a client. Not robust: only in the manager's private memory.
#pragma once

#include <condition_variable>
#include <mutex>
#include <shared_mutex>

#include "pmfs/base/lock_order.h"
#include "pmfs/base/thread_annotations.h"

namespace pmfs {

class CAPABILITY("mutex") Mutex {
 public:
  explicit Mutex(LockRank rank, const char* name, uint64_t key = 0) : rank_(rank), name_(name), key_(key) {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ACQUIRE() {
    lock_order::acquired(this, rank_, key_, name_, true);
    m_.lock();
  }
  bool TryLock() TRY_ACQUIRE(true) {
    if (!m_.try_lock()) return false;
    lock_order::acquired(this, rank_, key_, name_, false);
    return true;
  }
  void Unlock() RELEASE() {
    m_.unlock();
    lock_order::released(this);
  }
  void AssertHeld() const ASSERT_CAPABILITY(this);

 private:
  friend class CondVar;
  std::mutex m_;
  const LockRank rank_;
  const char* const name_;
  const uint64_t key_;
};

// Readers share, one writer excludes. May starve a writer only as long as std::shared_mutex does, so it
// guards short sections; what must be fair uses exclusion/range_lock.h.
class CAPABILITY("shared_mutex") SharedMutex {
 public:
  explicit SharedMutex(LockRank rank, const char* name, uint64_t key = 0) : rank_(rank), name_(name), key_(key) {}
  SharedMutex(const SharedMutex&) = delete;
  SharedMutex& operator=(const SharedMutex&) = delete;

  void Lock() ACQUIRE() {
    lock_order::acquired(this, rank_, key_, name_, true);
    m_.lock();
  }
  void Unlock() RELEASE() {
    m_.unlock();
    lock_order::released(this);
  }
  void LockShared() ACQUIRE_SHARED() {
    lock_order::acquired(this, rank_, key_, name_, true);
    m_.lock_shared();
  }
  void UnlockShared() RELEASE_SHARED() {
    m_.unlock_shared();
    lock_order::released(this);
  }

 private:
  std::shared_mutex m_;
  const LockRank rank_;
  const char* const name_;
  const uint64_t key_;
};

class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& m) ACQUIRE(m) : m_(m) { m_.Lock(); }
  ~MutexLock() RELEASE() { m_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& m_;
};

class SCOPED_CAPABILITY WriterLock {
 public:
  explicit WriterLock(SharedMutex& m) ACQUIRE(m) : m_(m) { m_.Lock(); }
  ~WriterLock() RELEASE() { m_.Unlock(); }
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

 private:
  SharedMutex& m_;
};

class SCOPED_CAPABILITY ReaderLock {
 public:
  explicit ReaderLock(SharedMutex& m) ACQUIRE_SHARED(m) : m_(m) { m_.LockShared(); }
  ~ReaderLock() RELEASE_GENERIC() { m_.UnlockShared(); }
  ReaderLock(const ReaderLock&) = delete;
  ReaderLock& operator=(const ReaderLock&) = delete;

 private:
  SharedMutex& m_;
};

// Wait() releases the mutex while it sleeps; the mutex stays on the checker's held stack (the thread can't
// acquire anything meanwhile).
class CondVar {
 public:
  void Wait(Mutex& m) REQUIRES(m) NO_THREAD_SAFETY_ANALYSIS {
    std::unique_lock<std::mutex> l(m.m_, std::adopt_lock);
    cv_.wait(l);
    l.release();
  }
  // False on timeout.
  template <class Duration>
  bool WaitFor(Mutex& m, Duration d) REQUIRES(m) NO_THREAD_SAFETY_ANALYSIS {
    std::unique_lock<std::mutex> l(m.m_, std::adopt_lock);
    bool signalled = cv_.wait_for(l, d) == std::cv_status::no_timeout;
    l.release();
    return signalled;
  }
  void Signal() { cv_.notify_one(); }
  void SignalAll() { cv_.notify_all(); }

 private:
  std::condition_variable cv_;
};

inline void Mutex::AssertHeld() const {
#ifdef PMFS_DEBUG_LOCKS
  if (!lock_order::held(this)) __builtin_trap();
#endif
}

}  // namespace pmfs
