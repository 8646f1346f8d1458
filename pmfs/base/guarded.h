// Runs a function in a child process: what it does to memory is gone, a crash or a hang costs the child only.
#pragma once

#include <functional>
#include <string>

namespace pmfs {

struct Guarded {
  std::string problem;  // empty: it returned; else how it ended ("died of signal 11", "still running after 60 s", what
                        // it threw)
  bool died = false;    // of a signal, or it was killed for being late
  int error = 0;        // errno of the pmfs::Error it threw
  std::string output;   // what it returned
};

// Not to be called while other threads of this process may hold locks that `f` needs. The child's standard error
// goes to /dev/null: libraries print there before they abort. Throws Error if there can be no child.
// `cpu_seconds`, if it is not 0: of a processor at most, which a busy machine does not make longer.
Guarded guarded(unsigned seconds, const std::function<std::string()>& f, unsigned cpu_seconds = 0);

}  // namespace pmfs
