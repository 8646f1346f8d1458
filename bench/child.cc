#include "bench/child.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <system_error>

namespace pmfs::bench {
namespace {

volatile sig_atomic_t g_interrupted = 0;

}  // namespace

void catch_interrupts() {
  for (const int sig : {SIGINT, SIGTERM}) ::signal(sig, [](int) { g_interrupted = 1; });
}

Child::Child(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ != 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (const int sig : {SIGINT, SIGTERM}) ::signal(sig, SIG_DFL);
  if (getppid() != parent) _exit(1);
  try {
    body();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "pmfs-bench: child %d: %s\n", getpid(), e.what());
    _exit(1);
  }
  std::fflush(nullptr);
  _exit(0);
}

Child::~Child() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void Child::signal(int sig) const {
  if (pid_ > 0) kill(pid_, sig);
}

void Child::join(std::chrono::seconds limit) {
  const auto start = Clock::now();
  for (int status = 0;;) {
    const pid_t r = waitpid(pid_, &status, WNOHANG);
    if (r == pid_) {
      pid_ = -1;
      if (status != 0) throw std::runtime_error("a child process failed, wait status " + std::to_string(status));
      return;
    }
    if (r < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "waitpid");
    if (g_interrupted != 0) throw std::runtime_error("interrupted");
    if (Clock::now() - start > limit) throw std::runtime_error("a child process took too long");
    usleep(500);
  }
}

void* allocate_shared(size_t n) {
  void* p = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (p == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  return p;
}
void release_shared(void* p, size_t n) { munmap(p, n); }

void Barrier::init(unsigned n) {
  pthread_barrierattr_t attr;
  pthread_barrierattr_init(&attr);
  pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&barrier_, &attr, n);
  pthread_barrierattr_destroy(&attr);
}

}  // namespace pmfs::bench
