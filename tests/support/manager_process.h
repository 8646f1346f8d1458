// A test_manager process (see test_manager.cc), driven by a test: killed at any moment, started again.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "pmfs/base/unique_fd.h"

namespace pmfs::test {

class ManagerProcess {
 public:
  static constexpr std::chrono::seconds kBound{30};
  // Starts it. Throws std::runtime_error.
  explicit ManagerProcess(const std::string& volume, const std::vector<std::string>& args = {});
  ~ManagerProcess();  // kills and reaps
  ManagerProcess(const ManagerProcess&) = delete;
  ManagerProcess& operator=(const ManagerProcess&) = delete;

  void wait_ready() { wait_line("ready"); }  // throws std::runtime_error after a bound
  void wait_arrived() { wait_line("arrived"); }
  bool has_arrived(std::chrono::milliseconds wait);
  void kill();  // SIGKILL, and waits for the end
  pid_t pid() const { return pid_; }
  int wait_exit();  // as of waitpid; by itself within a bound, or it throws

 private:
  void wait_line(const std::string& line);
  bool read_some(std::chrono::milliseconds wait);
  pid_t pid_ = -1;
  UniqueFd out_;
  std::string seen_;
};

}  // namespace pmfs::test
