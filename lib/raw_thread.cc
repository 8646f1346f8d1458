#include "lib/raw_thread.h"

#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include <cerrno>

#include "lib/memory_calls.h"
#include "pmfs/base/error.h"

namespace pmfs {
namespace {

constexpr size_t kGuardBytes = 4096;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define PMFS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define PMFS_SANITIZED 1
#endif
#endif
#ifdef PMFS_SANITIZED
constexpr size_t kStackBytes = 4096 * 1024;  // the sanitizers keep their thread's state there
#else
constexpr size_t kStackBytes = 256 * 1024;  // address space; what is touched is a few KiB
#endif
constexpr size_t kMostStackBytes = 16 * 1024 * 1024;

}  // namespace

// A program with much static TLS needs a larger stack: glibc says EINVAL then.
void RawThread::start(void* (*body)(void*), void* arg, const char* name) {
  int err = EINVAL;
  for (stack_bytes_ = kStackBytes; err == EINVAL && stack_bytes_ <= kMostStackBytes; stack_bytes_ *= 2) {
    err = create(body, arg);
    if (err == 0) break;
  }
  if (err != 0) fail(err, "can't start the thread {}; too many threads?", name);
  running_ = true;
  pthread_setname_np(thread_, name);
}

int RawThread::create(void* (*body)(void*), void* arg) {
  stack_ = kernel::mmap(nullptr, kGuardBytes + stack_bytes_, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (stack_ == MAP_FAILED) return errno;
  kernel::mprotect(stack_, kGuardBytes, PROT_NONE);
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstack(&attr, static_cast<char*>(stack_) + kGuardBytes, stack_bytes_);
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  const int err = pthread_create(&thread_, &attr, body, arg);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  pthread_attr_destroy(&attr);
  if (err != 0) kernel::munmap(stack_, kGuardBytes + stack_bytes_);
  return err;
}

bool RawThread::join_for(int64_t ns) {
  if (!running_) return true;
  timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  ts.tv_nsec += ns;
  while (ts.tv_nsec >= 1'000'000'000) ts.tv_sec++, ts.tv_nsec -= 1'000'000'000;
  if (pthread_timedjoin_np(thread_, nullptr, &ts) != 0) return false;
  running_ = false;
  kernel::munmap(stack_, kGuardBytes + stack_bytes_);
  return true;
}

void RawThread::abandon() {
  if (running_) pthread_detach(thread_);
  running_ = false;
}

void RawThread::forget() {
  if (running_) kernel::munmap(stack_, kGuardBytes + stack_bytes_);
  running_ = false;
}

}  // namespace pmfs
