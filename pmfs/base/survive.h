// Reading memory that the hardware may not give back (an uncorrectable error, a file cut short under its mapping): the kernel
// says so with SIGBUS, which ends the process unless somebody waits for it.
#pragma once

#include <csetjmp>

namespace pmfs {

namespace internal {
extern thread_local sigjmp_buf* t_survive;
void handle_sigbus();  // installs the handler, once; what was there before gets every other SIGBUS
}  // namespace internal

// Runs `f`; false: it was cut short by a SIGBUS. `f` must be such that its frames can be jumped out of: plain copies, no
// object with a destructor, no lock. Any thread. The caller's locals that `f` changes are lost with it.
template <class F>
bool survive_sigbus(F&& f) {
  internal::handle_sigbus();
  sigjmp_buf here;
  sigjmp_buf* const before = internal::t_survive;
  if (sigsetjmp(here, 0) != 0) {
    internal::t_survive = before;
    return false;
  }
  internal::t_survive = &here;
  f();
  internal::t_survive = before;
  return true;
}

}  // namespace pmfs
