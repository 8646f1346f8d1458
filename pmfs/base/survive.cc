#include "pmfs/base/survive.h"

#include <mutex>

#include <signal.h>
#include <ucontext.h>

namespace pmfs::internal {

thread_local sigjmp_buf* t_survive = nullptr;

namespace {

struct sigaction g_before;

void on_sigbus(int sig, siginfo_t* info, void* context) {
  if (t_survive != nullptr) {
    // As it was before: the next one is to be seen too, whatever is blocked while a handler runs.
    pthread_sigmask(SIG_SETMASK, &static_cast<const ucontext_t*>(context)->uc_sigmask, nullptr);
    siglongjmp(*t_survive, 1);
  }
  if ((g_before.sa_flags & SA_SIGINFO) != 0) return g_before.sa_sigaction(sig, info, context);
  if (g_before.sa_handler != SIG_DFL && g_before.sa_handler != SIG_IGN) return g_before.sa_handler(sig);
  signal(sig, SIG_DFL);  // the access is tried again, and ends the process as it would have
}

}  // namespace

void handle_sigbus() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction a {};
    a.sa_sigaction = on_sigbus;
    a.sa_flags = SA_SIGINFO;
    sigemptyset(&a.sa_mask);
    sigaction(SIGBUS, &a, &g_before);
  });
}

}  // namespace pmfs::internal
