// A hostile_client process (see hostile_client.cc): it does what it does until it ends or is killed.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace pmfs::test {

class HostileProcess {
 public:
  HostileProcess(const std::string& volume, const std::vector<std::string>& args);
  ~HostileProcess();  // kills and reaps
  HostileProcess(const HostileProcess&) = delete;
  HostileProcess& operator=(const HostileProcess&) = delete;
  bool running();
  int status() const { return status_; }  // of one that does not run any more

 private:
  pid_t pid_ = -1;
  int status_ = 0;
};

}  // namespace pmfs::test
