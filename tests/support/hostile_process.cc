#include "tests/support/hostile_process.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cstring>
#include <stdexcept>

extern char** environ;

namespace pmfs::test {

HostileProcess::HostileProcess(const std::string& volume, const std::vector<std::string>& args) {
  std::vector<std::string> all{PMFS_TEST_HOSTILE, volume};
  all.insert(all.end(), args.begin(), args.end());
  std::vector<char*> argv;
  for (std::string& a : all) argv.push_back(a.data());
  argv.push_back(nullptr);
  if (const int err = posix_spawn(&pid_, argv[0], nullptr, nullptr, argv.data(), environ); err != 0)
    throw std::runtime_error("can't start " + all[0] + ": " + std::strerror(err));
}

HostileProcess::~HostileProcess() {
  if (!running()) return;
  ::kill(pid_, SIGKILL);
  waitpid(pid_, &status_, 0);
}

bool HostileProcess::running() {
  if (pid_ >= 0 && waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = -1;
  return pid_ >= 0;
}

}  // namespace pmfs::test
