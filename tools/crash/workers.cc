#include "tools/crash/workers.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "pmfs/base/error.h"

namespace pmfs::crash {
namespace {

constexpr size_t kCounts = 8, kMostChildren = 64, kTextBytes = 600;
using Clock = std::chrono::steady_clock;

}  // namespace

struct Workers::Page {
  std::atomic<uint64_t> next_job{0}, counts[kCounts]{}, beats[kMostChildren]{};
  char doing[kMostChildren][kTextBytes];
};

Workers::Workers() {
  void* p = ::mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) fail(errno, "no memory for the worker processes");
  page_ = new (p) Page();
}
Workers::~Workers() { ::munmap(page_, sizeof(Page)); }

void Workers::count(size_t which, uint64_t n) { page_->counts[which].fetch_add(n); }
uint64_t Workers::counted(size_t which) const { return page_->counts[which].load(); }

void Workers::beat(const std::string& doing) {
  page_->beats[me_].fetch_add(1);
  size_t n = std::min(doing.size(), kTextBytes - 1);
  std::memcpy(page_->doing[me_], doing.data(), n);
  page_->doing[me_][n] = 0;
}

void Workers::found(const std::string& text) {
  // A line is written whole up to PIPE_BUF bytes, so the children's don't mix.
  std::string line = text.substr(0, 3000) + "\n";
  while (::write(report_fd_, line.data(), line.size()) < 0 && errno == EINTR) {
  }
}

std::vector<std::string> Workers::run(const Options& o, uint64_t first, const std::function<bool(uint64_t)>& enough,
                                      const std::function<Job(unsigned)>& make, const std::function<void()>& progress) {
  struct Child {
    pid_t pid = -1;
    uint64_t beats = 0;
    Clock::time_point since;
    bool killed = false;
  };
  const unsigned n = std::clamp(o.processes, 1u, static_cast<unsigned>(kMostChildren));
  page_->next_job.store(first);
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) fail(errno, "no pipe for the worker processes");
  std::vector<Child> children(n);
  std::vector<std::string> findings;
  auto start = [&](unsigned k) {
    pid_t pid = ::fork();
    if (pid < 0) fail(errno, "can't start a worker process: {}", std::strerror(errno));
    if (pid > 0) {
      children[k] = {pid, page_->beats[k].load(), Clock::now(), false};
      return;
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    me_ = k;
    report_fd_ = pipe_fds[1];
    int code = 0;
    try {
      Job job = make(k);
      for (;;) {
        uint64_t number = page_->next_job.fetch_add(1);
        if (enough(number)) break;
        job(number);
      }
    } catch (const std::exception& e) {
      found(fmt::format("worker can't go on at: {}: {}", page_->doing[k], e.what()));
      code = 1;
    }
    ::_exit(code);
  };
  for (unsigned k = 0; k < n; ++k) start(k);
  std::string text;
  unsigned deaths = 0;
  auto read_reports = [&](int timeout_ms) {
    pollfd p{pipe_fds[0], POLLIN, 0};
    while (::poll(&p, 1, timeout_ms) > 0) {
      char buffer[8192];
      ssize_t got = ::read(pipe_fds[0], buffer, sizeof buffer);
      if (got <= 0) break;
      text.append(buffer, static_cast<size_t>(got));
      timeout_ms = 0;
    }
    for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1))
      findings.push_back(text.substr(0, end));
  };
  for (unsigned alive = n; alive > 0;) {
    read_reports(200);
    progress();
    for (unsigned k = 0; k < n; ++k) {
      Child& c = children[k];
      if (c.pid < 0) continue;
      int status = 0;
      if (::waitpid(c.pid, &status, WNOHANG) == c.pid) {
        c.pid = -1;
        --alive;
        if (WIFEXITED(status) && WEXITSTATUS(status) <= 1) continue;
        findings.push_back(c.killed ? fmt::format("hung for {} s: {}", o.hang_seconds, page_->doing[k])
                                    : fmt::format("died of signal {}: {}", WTERMSIG(status), page_->doing[k]));
        if (++deaths >= 100) continue;
        start(k);
        ++alive;
        continue;
      }
      uint64_t beats = page_->beats[k].load();
      if (beats != c.beats) {
        c.beats = beats;
        c.since = Clock::now();
      } else if (!c.killed && Clock::now() - c.since > std::chrono::seconds(o.hang_seconds)) {
        c.killed = true;
        ::kill(c.pid, SIGKILL);
      }
    }
  }
  read_reports(0);
  ::close(pipe_fds[0]);
  ::close(pipe_fds[1]);
  return findings;
}

}  // namespace pmfs::crash
