#include "tests/support/manager_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>

extern char** environ;

namespace pmfs::test {
namespace {
using Clock = std::chrono::steady_clock;

std::chrono::milliseconds left(Clock::time_point deadline) {
  return std::chrono::ceil<std::chrono::milliseconds>(std::max(deadline - Clock::now(), Clock::duration::zero()));
}
}  // namespace

ManagerProcess::ManagerProcess(const std::string& volume, const std::vector<std::string>& args) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  out_.reset(fds[0]);
  const UniqueFd theirs(fds[1]);
  std::vector<std::string> all{PMFS_TEST_MANAGER, volume};
  all.insert(all.end(), args.begin(), args.end());
  std::vector<char*> argv;
  for (std::string& a : all) argv.push_back(a.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), 1);
  const int err = posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (err != 0) throw std::runtime_error("can't start " + all[0] + ": " + std::strerror(err));
}

ManagerProcess::~ManagerProcess() { kill(); }

void ManagerProcess::kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

int ManagerProcess::wait_exit() {
  const auto deadline = Clock::now() + kBound;
  int status = 0;
  while (waitpid(pid_, &status, WNOHANG) != pid_) {
    if (Clock::now() > deadline) throw std::runtime_error("the manager does not end");
    usleep(2000);
  }
  pid_ = -1;
  return status;
}

bool ManagerProcess::read_some(std::chrono::milliseconds wait) {
  pollfd p{out_.get(), POLLIN, 0};
  if (poll(&p, 1, static_cast<int>(wait.count())) <= 0) return false;
  char buffer[256];
  const ssize_t n = read(out_.get(), buffer, sizeof buffer);
  if (n <= 0) throw std::runtime_error("the manager has ended; it had said: " + seen_);
  seen_.append(buffer, static_cast<size_t>(n));
  return true;
}

void ManagerProcess::wait_line(const std::string& line) {
  for (const auto deadline = Clock::now() + kBound; seen_.find(line + "\n") == std::string::npos;)
    if (!read_some(left(deadline)) && Clock::now() > deadline) throw std::runtime_error("the manager does not say " + line);
}

bool ManagerProcess::has_arrived(std::chrono::milliseconds wait) {
  for (const auto deadline = Clock::now() + wait; seen_.find("arrived\n") == std::string::npos;)
    if (!read_some(left(deadline)) && Clock::now() >= deadline) return false;
  return true;
}

}  // namespace pmfs::test
