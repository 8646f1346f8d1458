#include "pmfs/fuse/request_loop.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "pmfs/base/lock_order.h"
#include "pmfs/base/sys.h"
#include "pmfs/fuse/ops.h"

namespace pmfs::fuse {

namespace {

constexpr int64_t kMaxSpinNs = 50'000, kMinSpinNs = 5'000;
// Makes a read that waits return.
constexpr int kWakeSignal = SIGUSR1;

constexpr int kNice = -10;  // needs CAP_SYS_NICE; without it readers are as everybody
constexpr unsigned kPile = 8;
constexpr uint32_t kShortIo = 128 << 10;

thread_local bool t_reader = false;
thread_local int t_came_by = -1;  // where this thread's request was read: the kernel wants its answer there

void handle_wake_signal() {
  struct sigaction sa {};
  sa.sa_handler = [](int) {};
  sigemptyset(&sa.sa_mask);
  sigaction(kWakeSignal, &sa, nullptr);
}

UniqueFd clone_of(int session_fd) {
  UniqueFd fd(::open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  uint32_t of = static_cast<uint32_t>(session_fd);
  if (fd && ::ioctl(fd.get(), FUSE_DEV_IOC_CLONE, &of) != 0) fd.reset();
  return fd;
}

// Looks at metadata or changes a little of it. What may be long says so by will_block(): a read, write or fsync that has to
// wait, a FORGET that ends a large file, a SETATTR with a size.
bool is_short(const void* request) {
  fuse_in_header h;
  std::memcpy(&h, request, sizeof h);
  switch (h.opcode) {
    case FUSE_READ: {
      fuse_read_in in;
      std::memcpy(&in, static_cast<const char*>(request) + sizeof h, sizeof in);
      return in.size <= kShortIo;
    }
    case FUSE_WRITE: return h.len <= kShortIo;
    case FUSE_LOOKUP:
    case FUSE_GETATTR:
    case FUSE_SETATTR:
    case FUSE_ACCESS:
    case FUSE_CREATE:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_SYMLINK:
    case FUSE_LINK:
    case FUSE_READLINK:
    case FUSE_UNLINK:  // the kernel has it still: FORGET makes an end of it
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_RMDIR:
    case FUSE_RENAME:
    case FUSE_RENAME2:
    case FUSE_FLUSH:
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
    case FUSE_RELEASE:
    case FUSE_OPENDIR:
    case FUSE_RELEASEDIR:
    case FUSE_STATFS:
    case FUSE_GETXATTR:
    case FUSE_SETXATTR:
    case FUSE_LISTXATTR:
    case FUSE_REMOVEXATTR:
    case FUSE_INTERRUPT: return true;
    default: return false;
  }
}

}  // namespace

void RequestLoop::start(fuse_session* session, unsigned threads, std::function<void()> on_end) {
  session_ = session;
  on_end_ = std::move(on_end);
  impatient_ = clone_of(fuse_session_fd(session));
  spin_ = impatient_ && std::thread::hardware_concurrency() > 1;
  handle_wake_signal();
  running_.store(threads);
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

void RequestLoop::stop() {
  stop_.store(true);
  fuse_session_exit(session_);
  {
    MutexLock l(mutex_);
    no_reader_.SignalAll();
  }
  // Again and again: one that comes between a reader's look and its wait would be lost.
  while (running_.load() != 0) {
    for (auto& t : threads_) pthread_kill(t.native_handle(), kWakeSignal);
    ::usleep(1000);
  }
  for (auto& t : threads_) t.join();
  threads_.clear();
  impatient_.reset();  // the connection ends with its last descriptor
}

bool RequestLoop::become_reader() {
  MutexLock l(mutex_);
  ++waiting_;
  while (reader_ && !stop_.load()) no_reader_.Wait(mutex_);
  --waiting_;
  if (stop_.load()) return false;
  reader_ = true;
  return true;
}

bool RequestLoop::nobody_waits() {
  MutexLock l(mutex_);
  return waiting_ == 0;
}

void RequestLoop::stop_reading() {
  if (halt_poll_.held() && nobody_waits()) halt_poll_.give_up();  // it may be a while until somebody reads
  MutexLock l(mutex_);
  reader_ = false;
  if (stop_.load()) {
    no_reader_.SignalAll();
  } else {
    no_reader_.Signal();
  }
}

void RequestLoop::will_block() {
  if (!t_reader) return;
  t_reader = false;
  stop_reading();
}

void RequestLoop::run() {
  // Who asks sleeps until it is answered: before any other work of the manager, where that is allowed (as fault/pager.cc).
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kNice);
  fuse_buf buffer{};
  while (become_reader()) {
    t_reader = true;
    while (t_reader) {
      lock_order::assert_none_held("fuse reader");
      const int got = fuse_session_receive_buf(session_, &buffer);
      if (got == -EINTR && !fuse_session_exited(session_)) continue;
      if (got <= 0) {  // unmounted, or told to stop
        if (!stop_.exchange(true)) on_end_();
        will_block();
        break;
      }
      if (at_once_ >= kPile || !is_short(buffer.mem)) {
        at_once_ = 0;
        will_block();
      }
      fuse_session_process_buf(session_, &buffer);
    }
  }
  std::free(buffer.mem);
  running_.fetch_sub(1);
}

ssize_t RequestLoop::read(int fd, void* buffer, size_t bytes) {
  if (!spin_) {
    t_came_by = fd;
    return ::read(fd, buffer, bytes);
  }
  ++at_once_;
  const int64_t begin = sys().monotonic_ns();
  int64_t now = begin;
  if (now - last_answer_ns_.load(std::memory_order_relaxed) < kMaxSpinNs) spin_ns_ = kMaxSpinNs;
  t_came_by = impatient_.get();
  for (const int64_t until = now + (spin_ns_ >= kMinSpinNs ? spin_ns_ : 0);; now = sys().monotonic_ns()) {
    const ssize_t n = ::read(impatient_.get(), buffer, bytes);
    if (n > 0) halt_poll_.came(now - begin);
    if (n >= 0 || errno != EAGAIN) return n;
    at_once_ = 0;
    if (now >= until) break;
    for (int i = 0; i < 4; ++i) __builtin_ia32_pause();
  }
  spin_ns_ /= 2;
  halt_poll_.linger(fd, now - begin);
  t_came_by = fd;
  const ssize_t n = ::read(fd, buffer, bytes);
  if (n > 0) halt_poll_.came(sys().monotonic_ns() - begin);
  return n;
}

ssize_t RequestLoop::write(int fd, iovec* parts, int count) {
  const ssize_t n = ::writev(t_came_by >= 0 ? t_came_by : fd, parts, count);
  last_answer_ns_.store(sys().monotonic_ns(), std::memory_order_relaxed);
  return n;
}

}  // namespace pmfs::fuse
