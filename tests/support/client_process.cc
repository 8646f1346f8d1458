#include "tests/support/client_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

extern char** environ;

namespace pmfs::test {
namespace {

using Clock = std::chrono::steady_clock;

struct Pipe {
  UniqueFd read, write;
};
Pipe make_pipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) throw std::runtime_error("pipe2: " + std::string(std::strerror(errno)));
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

int left_ms(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return left < 0 ? 0 : static_cast<int>(left) + 1;
}

std::string program() {
  const auto beside = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "test_client";
  if (std::filesystem::exists(beside)) return beside;
#ifdef PMFS_TEST_CLIENT
  return PMFS_TEST_CLIENT;
#else
  throw std::runtime_error("no test_client beside the test program");
#endif
}

}  // namespace

ClientProcess::ClientProcess(uid_t uid) : child_of_ours_(true), pool_(std::make_shared<Pool>()) {
  Pipe in = make_pipe(), out = make_pipe();
  std::vector<Pipe> theirs;
  std::vector<std::string> args{program()};
  if (uid != 0) args.insert(args.end(), {"--uid", std::to_string(uid)});
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.read.get(), 0);
  posix_spawn_file_actions_adddup2(&actions, out.write.get(), 1);
  for (Pipes& ours : *pool_) {
    Pipe to = make_pipe(), from = make_pipe();
    for (int fd : {to.read.get(), from.write.get()}) {
      posix_spawn_file_actions_adddup2(&actions, fd, fd);  // clears close-on-exec
      args.push_back(std::to_string(fd));
    }
    ours.to = std::move(to.write);
    ours.from = std::move(from.read);
    theirs.push_back({std::move(to.read), std::move(from.write)});
  }
  std::vector<char*> argv;
  for (std::string& a : args) argv.push_back(a.data());
  argv.push_back(nullptr);
  const int err = posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (err != 0) throw std::runtime_error("can't start " + args[0] + ": " + std::strerror(err));
  to_ = std::move(in.write);
  from_ = std::move(out.read);
  open_pidfd();
}

ClientProcess::ClientProcess(pid_t pid, Pipes pipes, std::shared_ptr<Pool> pool)
    : pid_(pid), to_(std::move(pipes.to)), from_(std::move(pipes.from)), pool_(std::move(pool)) {
  open_pidfd();
}

void ClientProcess::open_pidfd() {
  pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  if (!pidfd_) throw std::runtime_error("pidfd_open: " + std::string(std::strerror(errno)));
}

ClientProcess::~ClientProcess() {
  try {
    if (!reaped_) kill(SIGKILL);
  } catch (const std::exception&) {  // nothing more to be done about it
  }
}

void ClientProcess::kill(int signal) {
  // By pidfd: the number may belong to somebody else by now.
  if (syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0) != 0 && errno != ESRCH) {
    throw std::runtime_error("kill: " + std::string(std::strerror(errno)));
  }
  if (signal == SIGKILL) wait_exit();
}

bool ClientProcess::alive() const {
  pollfd p{pidfd_.get(), POLLIN, 0};
  return !reaped_ && poll(&p, 1, 0) == 0;
}

void ClientProcess::wait_exit(std::chrono::milliseconds bound) {
  if (reaped_) return;
  pollfd p{pidfd_.get(), POLLIN, 0};
  const auto deadline = Clock::now() + bound;
  int n;
  do {
    n = poll(&p, 1, left_ms(deadline));
  } while (n < 0 && errno == EINTR);
  if (n <= 0) throw std::runtime_error("client " + std::to_string(pid_) + " does not end");
  if (child_of_ours_) waitpid(pid_, nullptr, 0);
  reaped_ = true;
}

void ClientProcess::stop() {
  kill(SIGSTOP);
  const auto deadline = Clock::now() + kBound;
  for (;;) {
    bool all = true;
    std::error_code gone;
    for (const auto& t : std::filesystem::directory_iterator("/proc/" + std::to_string(pid_) + "/task", gone)) {
      std::ifstream f(t.path() / "stat");
      std::string line;
      std::getline(f, line);
      const size_t at = line.rfind(')');  // the name may contain anything
      // A thread that waits in a fault (D) is as good as stopped: it executes nothing.
      if (at == std::string::npos || at + 2 >= line.size()) continue;  // the thread is gone
      all = all && std::string("TtD").find(line[at + 2]) != std::string::npos;
    }
    if (all) return;
    if (Clock::now() > deadline) throw std::runtime_error("client " + std::to_string(pid_) + " does not stop");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void ClientProcess::send(const std::string& line) {
  const std::string text = line + "\n";
  // A dead reader must be an error here, not a SIGPIPE to the test.
  struct Ignore {
    void (*old)(int) = signal(SIGPIPE, SIG_IGN);
    ~Ignore() { signal(SIGPIPE, old); }
  } ignore;
  if (write(to_.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    throw std::runtime_error("client " + std::to_string(pid_) + " is dead; command was: " + line);
  }
}

bool ClientProcess::has_reply(std::chrono::milliseconds wait) {
  if (pending_.find('\n') != std::string::npos) return true;
  pollfd p{from_.get(), POLLIN, 0};
  return poll(&p, 1, static_cast<int>(wait.count())) > 0;
}

std::string ClientProcess::receive(std::chrono::milliseconds bound) {
  const auto deadline = Clock::now() + bound;
  size_t end;
  while ((end = pending_.find('\n')) == std::string::npos) {
    // The process too: a sibling may hold the pipe open.
    pollfd p[2] = {{from_.get(), POLLIN, 0}, {pidfd_.get(), POLLIN, 0}};
    const int n = poll(p, 2, left_ms(deadline));
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) throw std::runtime_error("client " + std::to_string(pid_) + ": no reply");
    if (p[0].revents == 0) throw std::runtime_error("client " + std::to_string(pid_) + " died");
    char buffer[4096];
    const ssize_t got = read(from_.get(), buffer, sizeof buffer);
    if (got <= 0) throw std::runtime_error("client " + std::to_string(pid_) + " died");
    pending_.append(buffer, static_cast<size_t>(got));
  }
  const std::string reply = pending_.substr(0, end);
  pending_.erase(0, end + 1);
  return reply;
}

std::string ClientProcess::cmd(const std::string& line, std::chrono::milliseconds bound) {
  send(line);
  try {
    return receive(bound);
  } catch (const std::runtime_error& e) {
    throw std::runtime_error(std::string(e.what()) + "; command was: " + line);
  }
}

void ClientProcess::ok(const std::string& line) {
  const std::string reply = cmd(line);
  if (reply != "ok") throw std::runtime_error("'" + line + "' was answered: " + reply);
}

std::unique_ptr<ClientProcess> ClientProcess::fork() {
  for (unsigned i = 0; i < kForks; ++i) {
    Pipes& p = (*pool_)[i];
    if (!p.to) continue;
    Pipes taken = std::move(p);
    const std::string reply = cmd("fork " + std::to_string(i));
    if (reply.empty() || reply[0] < '0' || reply[0] > '9') throw std::runtime_error("fork was answered: " + reply);
    return std::unique_ptr<ClientProcess>(new ClientProcess(std::stoi(reply), std::move(taken), pool_));
  }
  throw std::runtime_error("no more pipes for forked children (kForks)");
}

}  // namespace pmfs::test
