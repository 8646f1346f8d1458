// What a load or a store comes to.
#pragma once

#include <setjmp.h>
#include <signal.h>

namespace pmfs::test {

inline thread_local sigjmp_buf t_touch_jump;

// 0, SIGBUS or SIGSEGV: what a load (or a store of what is there) comes to.
inline int touch(const volatile char* p, bool store = false) {
  struct sigaction sa {}, segv {}, bus {};
  sa.sa_handler = [](int sig) { siglongjmp(t_touch_jump, sig); };
  sigaction(SIGSEGV, &sa, &segv);
  sigaction(SIGBUS, &sa, &bus);
  const int sig = sigsetjmp(t_touch_jump, 1);
  if (sig == 0) {
    const char c = *p;
    if (store) *const_cast<volatile char*>(p) = c;
  }
  sigaction(SIGSEGV, &segv, nullptr);
  sigaction(SIGBUS, &bus, nullptr);
  return sig;
}

}  // namespace pmfs::test
