// Child processes of the benchmark: each measures in a process of its own, because that is what a client is.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <new>
#include <utility>

namespace pmfs::bench {

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

// SIGINT and SIGTERM end the next Child::join() with an exception, so that everything is cleaned up.
void catch_interrupts();

// A process that runs `body` and ends. It dies with the benchmark. The destructor kills it by its pid and reaps it.
class Child {
 public:
  explicit Child(const std::function<void()>& body);
  Child(Child&& o) noexcept : pid_(std::exchange(o.pid_, -1)) {}
  Child& operator=(Child&&) = delete;
  ~Child();
  pid_t pid() const { return pid_; }
  void signal(int sig) const;
  void join(std::chrono::seconds limit = std::chrono::seconds(120));  // throws if it failed or the limit passed

 private:
  pid_t pid_;
};

inline void in_child(const std::function<void()>& body) { Child(body).join(); }

void* allocate_shared(size_t n);
void release_shared(void* p, size_t n);

// A T in memory shared with every child made afterwards.
template <class T>
class Shared {
 public:
  Shared() : p_(new (allocate_shared(sizeof(T))) T()) {}
  ~Shared() {
    p_->~T();
    release_shared(p_, sizeof(T));
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  T* operator->() const { return p_; }
  T& operator*() const { return *p_; }

 private:
  T* p_;
};

// Between processes; lives in Shared memory.
class Barrier {
 public:
  void init(unsigned n);
  void wait() { pthread_barrier_wait(&barrier_); }

 private:
  pthread_barrier_t barrier_;
};

}  // namespace pmfs::bench
