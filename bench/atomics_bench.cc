// How many atomic read-modify-writes an uncontended fault executes under each scheme: counted, not estimated. A child runs one
// fault between two stops; its parent steps through it and looks at every instruction.
//
// Exit code: 0; 1 when the default takes more than two, or the counter can't be trusted; 77 in a build whose lock checks would be
// counted too.
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "bench/fault_path.h"

namespace {

using namespace pmfs;
using namespace pmfs::exclusion;

constexpr unsigned kMostOfDefault = 2;
constexpr long kMostSteps = 1'000'000;

void stop() { syscall(SYS_kill, syscall(SYS_getpid), SIGSTOP); }

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::exit(1);
}

// A LOCK prefix, or an exchange with memory, which locks without one (Intel SDM, volume 2).
bool is_atomic(const unsigned char* code) {
  bool lock = false;
  for (;; ++code) {
    switch (*code) {
      case 0xf0: lock = true; continue;
      case 0x66: case 0x67: case 0xf2: case 0xf3: case 0x2e: case 0x36: case 0x3e: case 0x26: case 0x64: case 0x65: continue;
    }
    break;
  }
  if ((*code & 0xf0) == 0x40) ++code;  // REX
  return lock || ((*code == 0x86 || *code == 0x87) && code[1] >> 6 != 3);
}

// From where the child is stopped to its next stop of its own.
unsigned atomics_to_next_stop(pid_t child) {
  unsigned n = 0;
  for (long step = 0; step < kMostSteps; ++step) {
    user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, child, nullptr, &regs) != 0) give_up("PTRACE_GETREGS");
    unsigned char code[2 * sizeof(long)];
    for (size_t k = 0; k < 2; ++k) {
      errno = 0;
      const long word = ptrace(PTRACE_PEEKTEXT, child, reinterpret_cast<char*>(regs.rip) + k * sizeof(long), nullptr);
      if (errno != 0) give_up("PTRACE_PEEKTEXT");
      std::memcpy(code + k * sizeof word, &word, sizeof word);
    }
    n += is_atomic(code);
    int status = 0;
    if (ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) != 0 || waitpid(child, &status, 0) != child) give_up("a step");
    if (!WIFSTOPPED(status)) give_up("the child ended");
    if (WSTOPSIG(status) == SIGSTOP) return n;
  }
  std::fprintf(stderr, "no end after %ld instructions\n", kMostSteps);
  std::exit(1);
}

struct Counted {
  unsigned nothing, fault;
};

Counted count(const SchemeInfo& info) {
  const pid_t child = fork();
  if (child < 0) give_up("fork");
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    LockEntryTree tree(1);
    const std::unique_ptr<Scheme> scheme = info.make(tree, 1);
    for (int warm = 0; warm < 3; ++warm) bench::fault(*scheme, tree, 7);
    stop();
    stop();
    bench::fault(*scheme, tree, 7);
    stop();
    _exit(0);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) give_up("the child does not stop");
  const Counted c{atomics_to_next_stop(child), atomics_to_next_stop(child)};
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  return c;
}

}  // namespace

int main() {
#if defined(PMFS_DEBUG_LOCKS) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  std::puts("this build checks its locks, or is instrumented: its atomics are not the product's");
  return 77;
#endif
  bool ok = true, counts = false;
  std::puts("atomic read-modify-writes of an uncontended fault");
  for (const SchemeInfo& s : schemes()) {
    const Counted c = count(s);
    const std::string name(s.name);
    std::printf("%-12s %3u\n", name.c_str(), c.fault);
    ok = ok && c.nothing == 0;  // between two stops with nothing in between
    if (name == kDefaultScheme) ok = ok && c.fault <= kMostOfDefault;
    counts = counts || c.fault > kMostOfDefault;  // a scheme with a lock per file must show
  }
  return ok && counts ? 0 : 1;
}
