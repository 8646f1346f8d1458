#include "pmfs/base/guarded.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/unique_fd.h"

namespace pmfs {
namespace {

using Clock = std::chrono::steady_clock;

void write_all(int fd, const std::string& s) {
  for (size_t done = 0; done < s.size();) {
    ssize_t n = ::write(fd, s.data() + done, s.size() - done);
    if (n < 0 && errno != EINTR) return;
    if (n > 0) done += static_cast<size_t>(n);
  }
}

[[noreturn]] void child(int out, const std::function<std::string()>& f, unsigned cpu_seconds) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (int sig : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL}) ::signal(sig, SIG_DFL);
  rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  if (cpu_seconds != 0) {
    rlimit cpu{cpu_seconds, cpu_seconds + 1};
    ::setrlimit(RLIMIT_CPU, &cpu);
    ::signal(SIGXCPU, SIG_DFL);
  }
  int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (null >= 0) ::dup2(null, 2);
  std::string text;
  try {
    text = "=" + f();
  } catch (const Error& e) {
    text = fmt::format("!{} {}", e.err(), e.message());
  } catch (const std::exception& e) {
    text = fmt::format("!{} {}", EIO, e.what());
  }
  write_all(out, text);
  ::_exit(0);
}

}  // namespace

Guarded guarded(unsigned seconds, const std::function<std::string()>& f, unsigned cpu_seconds) {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) fail(errno, "no pipe to a child process: {}", std::strerror(errno));
  UniqueFd in(fds[0]), out(fds[1]);
  pid_t pid = ::fork();
  if (pid < 0) fail(errno, "no child process: {}", std::strerror(errno));
  if (pid == 0) child(out.get(), f, cpu_seconds);
  out = UniqueFd();
  Guarded g;
  std::string text;
  const auto deadline = Clock::now() + std::chrono::seconds(seconds);
  bool late = false;
  for (;;) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd p{in.get(), POLLIN, 0};
    int n = left > 0 ? ::poll(&p, 1, static_cast<int>(left)) : 0;
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      late = true;
      ::kill(pid, SIGKILL);
      break;
    }
    char buffer[65536];
    ssize_t got = ::read(in.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer, static_cast<size_t>(got));
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  g.died = late || !WIFEXITED(status) || text.empty();
  if (late) {
    g.problem = fmt::format("still running after {} s", seconds);
  } else if (!WIFEXITED(status) || text.empty()) {
    g.problem = WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU ? fmt::format("still running after {} s of a processor", cpu_seconds)
                : WIFSIGNALED(status) ? fmt::format("died of signal {}", WTERMSIG(status)) : "ended too early";
  } else if (text[0] == '!') {
    size_t space = text.find(' ');
    g.error = std::stoi(text.substr(1, space - 1));
    g.problem = text.substr(space + 1);
  } else {
    g.output = text.substr(1);
  }
  if (!g.problem.empty() && g.error == 0) g.error = EUCLEAN;
  return g;
}

}  // namespace pmfs
