// A test_client process (see test_client.cc for its commands), driven by a test.
//
//   ClientProcess a;
//   a.ok("connect " + volume);          // throws unless the reply is "ok"
//   CHECK(a.cmd("load m 0") == "42");
//   auto child = a.fork();              // drives the forked child
//
// Each wait has a bound, so that a hang is a failure with a name and not a dead test run. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "pmfs/base/unique_fd.h"

namespace pmfs::test {

class ClientProcess {
 public:
  static constexpr std::chrono::seconds kBound{30};
  static constexpr unsigned kForks = 4;  // children of one process and its children

  explicit ClientProcess(uid_t uid = 0);  // uid != 0: drops to it first
  ~ClientProcess();                       // kills and reaps
  ClientProcess(const ClientProcess&) = delete;
  ClientProcess& operator=(const ClientProcess&) = delete;

  // Sends a command and returns its reply. Throws std::runtime_error when the process is dead or too slow.
  std::string cmd(const std::string& line, std::chrono::milliseconds bound = kBound);
  void ok(const std::string& line);  // throws unless the reply is "ok"
  // The halves of cmd(), for a command that is expected to block.
  void send(const std::string& line);
  std::string receive(std::chrono::milliseconds bound = kBound);
  bool has_reply(std::chrono::milliseconds wait);

  std::unique_ptr<ClientProcess> fork();

  pid_t pid() const { return pid_; }
  void kill(int signal);  // SIGKILL also waits for the end
  // Waits until every thread is stopped after SIGSTOP.
  void stop();
  bool alive() const;
  void wait_exit(std::chrono::milliseconds bound = kBound);

 private:
  struct Pipes {  // for a child to come: our ends, and the numbers it knows its ends by
    UniqueFd to, from;
  };
  using Pool = std::array<Pipes, kForks>;
  ClientProcess(pid_t pid, Pipes pipes, std::shared_ptr<Pool> pool);
  void open_pidfd();

  pid_t pid_ = -1;
  bool child_of_ours_ = false, reaped_ = false;
  UniqueFd pidfd_, to_, from_;
  std::string pending_;
  std::shared_ptr<Pool> pool_;  // shared with forked children: each pair is used once
};

}  // namespace pmfs::test
