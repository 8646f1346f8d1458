// A volume and a manager of our own, for one run: `pmfs mkfs` and `pmfs serve` of the binary beside this one.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tools/torture/options.h"

namespace torture {

class ManagerProcess {
 public:
  // Makes a directory of its own in o.directory, formats it and waits until the manager is ready. Throws pmfs::Error.
  explicit ManagerProcess(const Options& o);
  ~ManagerProcess();  // ends it and removes everything
  ManagerProcess(const ManagerProcess&) = delete;
  ManagerProcess& operator=(const ManagerProcess&) = delete;

  const std::string& volume() const { return volume_; }
  pid_t pid() const { return pid_; }
  void reaped() { pid_ = -1; }  // somebody else's waitpid got it
  std::string log_tail() const;
  // SIGKILL at once; then another one on the same volume, which is ready on return. Throws pmfs::Error.
  void kill_and_restart();
  // `pmfs fsck` of the volume, which nobody serves: empty if it finds nothing, else what it says.
  std::string fsck();
  // SIGTERM, then SIGKILL after a bound. False: it had to be killed, or ended badly.
  bool stop();

 private:
  pid_t spawn(const std::vector<std::string>& args, int ready_fd);
  void serve();
  void remove_all();
  const Options options_;
  std::string directory_, volume_, log_;
  pid_t pid_ = -1;
};

// Runs a program to its end; its exit status as of waitpid, or -1 when the bound passed (it is killed then).
int wait_bounded(pid_t pid, double seconds);
std::string own_directory();  // where this binary is

}  // namespace torture
