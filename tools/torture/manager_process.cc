#include "tools/torture/manager_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include <fmt/format.h>

#include "pmfs/base/error.h"
#include "tools/torture/control_block.h"

namespace torture {

namespace {
constexpr double kFormatBound = 60, kReadyBound = 30, kStopBound = 20, kFsckBound = 60;  // seconds
constexpr size_t kTail = 20;                                            // lines
constexpr char kPrefix[] = "pmfs-torture.";

// Of runs that were killed with SIGKILL: their process is gone.
void remove_leftovers(const std::string& parent) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(parent, ignored)) {
    std::string name = entry.path().filename().string();
    if (name.rfind(kPrefix, 0) != 0) continue;
    pid_t pid = std::atoi(name.c_str() + std::strlen(kPrefix));
    if (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH) std::filesystem::remove_all(entry.path(), ignored);
  }
}
}  // namespace

int wait_bounded(pid_t pid, double seconds) {
  uint64_t bound = now_ns() + static_cast<uint64_t>(seconds * 1e9);
  int status = 0;
  while (waitpid(pid, &status, WNOHANG) != pid) {
    if (now_ns() > bound) {
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
      return -1;
    }
    usleep(5000);
  }
  return status;
}

std::string own_directory() { return std::filesystem::read_symlink("/proc/self/exe").parent_path().string(); }

ManagerProcess::ManagerProcess(const Options& o) : options_(o) {
  remove_leftovers(o.directory);
  std::string name = fmt::format("{}/{}{}.XXXXXX", std::filesystem::absolute(o.directory).string(), kPrefix, getpid());
  if (mkdtemp(name.data()) == nullptr) pmfs::fail(errno, "{}: {}", name, std::strerror(errno));
  directory_ = name;
  volume_ = directory_ + "/vol";
  log_ = directory_ + "/manager.log";
  try {
    std::vector<std::string> args = {"mkfs", volume_, "--size", std::to_string(o.volume_bytes >> 20) + "M", "--sparse"};
    if (!o.unit.empty()) args.insert(args.end(), {"--unit", o.unit});
    if (!o.device.empty()) args.insert(args.end(), {"--data", o.device, "--force"});
    pid_t mkfs = spawn(args, -1);
    if (wait_bounded(mkfs, kFormatBound) != 0) pmfs::fail(EIO, "pmfs mkfs failed:\n{}", log_tail());
    serve();
  } catch (...) {
    stop();
    remove_all();
    throw;
  }
}

ManagerProcess::~ManagerProcess() {
  stop();
  remove_all();
}

void ManagerProcess::serve() {
  const Options& o = options_;
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) pmfs::fail(errno, "pipe: {}", std::strerror(errno));
  std::vector<std::string> args = {"serve", volume_, "--exclusion", o.exclusion, "--torture-allow-broken", "--canary",
                                   "--trace", "--pagers", std::to_string(o.pagers), "--workers",
                                   std::to_string(o.workers), "--ready-fd", std::to_string(ready[1])};
  if (o.force_acked) args.push_back("--force-acked");
  if (o.jitter != 0) args.insert(args.end(), {"--jitter", std::to_string(o.jitter)});
  pid_ = spawn(args, ready[1]);
  close(ready[1]);
  pollfd p{ready[0], POLLIN, 0};
  char byte = 0;
  bool ok = poll(&p, 1, static_cast<int>(kReadyBound * 1000)) == 1 && ::read(ready[0], &byte, 1) == 1;
  close(ready[0]);
  if (!ok) pmfs::fail(EIO, "pmfs serve did not get ready:\n{}", log_tail());
}

void ManagerProcess::kill_and_restart() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
  serve();
}

std::string ManagerProcess::fsck() {
  int status = wait_bounded(spawn({"fsck", volume_}, -1), kFsckBound);
  return status == 0 ? std::string() : fmt::format("wait status {:#x}\n{}", status, log_tail());
}

pid_t ManagerProcess::spawn(const std::vector<std::string>& args, int ready_fd) {
  std::string program = own_directory() + "/pmfs";
  std::vector<char*> argv = {program.data()};
  std::vector<std::string> copy = args;
  for (std::string& a : copy) argv.push_back(a.data());
  argv.push_back(nullptr);
  int log = open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log < 0) pmfs::fail(errno, "{}: {}", log_, std::strerror(errno));
  // vfork: our own sessions have nothing to say at a fork that ends in an exec, and their manager may just be dead.
  pid_t parent = getpid(), pid = vfork();
  if (pid < 0) pmfs::fail(errno, "fork: {}", std::strerror(errno));
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(127);
    setpgid(0, 0);  // a Ctrl-C is for the torture tool alone, which then ends the manager
    dup2(log, 1);
    dup2(log, 2);
    if (ready_fd >= 0) fcntl(ready_fd, F_SETFD, 0);
    execv(argv[0], argv.data());
    static const char kText[] = "can't be executed\n";
    if (write(2, kText, sizeof kText - 1) < 0) _exit(126);
    _exit(127);
  }
  close(log);
  return pid;
}

bool ManagerProcess::stop() {
  if (pid_ <= 0) return true;
  kill(pid_, SIGTERM);
  int status = wait_bounded(pid_, kStopBound);
  pid_ = -1;
  return status == 0;
}

void ManagerProcess::remove_all() {
  std::error_code ignored;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
}

std::string ManagerProcess::log_tail() const {
  std::ifstream in(log_);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  std::string out;
  for (size_t i = lines.size() > kTail ? lines.size() - kTail : 0; i < lines.size(); ++i) out += "  " + lines[i] + "\n";
  return out;
}

}  // namespace torture
