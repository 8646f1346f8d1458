#include "bench/manager_process.h"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <stdexcept>

#include "pmfs/fs/volume.h"
#include "pmfs/server/server.h"

namespace pmfs::bench {
namespace {

server::Server* g_server = nullptr;

void serve(const std::filesystem::path& volume, const std::string& exclusion, std::atomic<bool>& ready) {
  spdlog::set_level(spdlog::level::warn);
  server::ServerOptions o;
  o.volume = volume;
  o.exclusion = exclusion;
  server::Server server(o);
  server.start();
  g_server = &server;
  signal(SIGTERM, [](int) { g_server->request_stop(); });
  signal(SIGINT, SIG_IGN);  // ends when the benchmark does
  ready.store(true);
  server.wait();
}

Child start(const std::filesystem::path& volume, uint64_t bytes, const std::string& exclusion, const std::filesystem::path& device,
            std::atomic<bool>& ready) {
  format_volume(volume, {bytes / kBlockSize, false, !device.empty(), device});
  return Child([&] { serve(volume, exclusion, ready); });
}

}  // namespace

ManagerProcess::ManagerProcess(const std::filesystem::path& volume, uint64_t bytes, const std::string& exclusion,
                               const std::filesystem::path& device)
    : data_(volume / "data"), bytes_(bytes), child_(start(volume, bytes, exclusion, device, *ready_)) {
  for (const auto t = Clock::now(); !ready_->load();) {
    if (seconds_since(t) > 30) throw std::runtime_error("the manager does not come up");
    if (kill(child_.pid(), 0) != 0) throw std::runtime_error("the manager is gone");
    usleep(1000);
  }
}

ManagerProcess::~ManagerProcess() {
  child_.signal(SIGTERM);
  try {
    child_.join(std::chrono::seconds(10));
  } catch (const std::exception&) {
    // ~Child kills it
  }
}

bool ManagerProcess::settle(std::chrono::seconds limit) const {
  clockid_t cpu;
  if (clock_getcpuclockid(child_.pid(), &cpu) != 0) throw std::runtime_error("the manager is gone");
  int64_t before = -1;
  for (const auto t = Clock::now(); Clock::now() - t < limit; usleep(20000)) {
    struct stat st;
    timespec used;
    if (stat(data_.c_str(), &st) != 0 || clock_gettime(cpu, &used) != 0) return false;
    const int64_t now = int64_t{used.tv_sec} * 1000000000 + used.tv_nsec;
    const bool idle = before >= 0 && now - before < 1000000;  // under 5 % of a processor
    before = now;
    if (idle && static_cast<uint64_t>(st.st_blocks) * 512 >= bytes_) return true;
  }
  return false;
}

}  // namespace pmfs::bench
