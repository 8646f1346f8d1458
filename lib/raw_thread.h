// A thread that may run while every other thread of the process waits in a page fault with any lock held. So its body
// makes raw system calls only (or library functions that are no more): no malloc, no stdio, no locks. It has a stack of
// its own and blocks every signal: a handler of the application on it could touch mapped memory.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <cstdint>

namespace pmfs {

class RawThread {
 public:
  RawThread() = default;
  ~RawThread() = default;  // not running: joined, abandoned or forgotten
  RawThread(const RawThread&) = delete;
  RawThread& operator=(const RawThread&) = delete;

  // name: at most 15 characters. Throws Error(EAGAIN...).
  void start(void* (*body)(void*), void* arg, const char* name);
  bool running() const { return running_; }
  bool join_for(int64_t ns);  // true: it has ended
  void abandon();             // it hangs in the kernel: what it uses must stay
  void forget();              // in a forked child, where the thread does not exist: frees the stack

 private:
  int create(void* (*body)(void*), void* arg);
  void* stack_ = nullptr;
  size_t stack_bytes_ = 0;
  pthread_t thread_{};
  bool running_ = false;
};

}  // namespace pmfs
