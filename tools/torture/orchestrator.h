// The parent of a run: starts manager and workers, stops and kills workers, collects violations, never hangs.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "pmfs/pmfs.hpp"
#include "tools/torture/control_block.h"
#include "tools/torture/manager_process.h"
#include "tools/torture/options.h"
#include "tools/torture/pte_oracle.h"
#include "tools/torture/report.h"

namespace torture {

class Orchestrator {
 public:
  explicit Orchestrator(const Options& o);  // throws pmfs::Error: could not run
  ~Orchestrator();
  Orchestrator(const Orchestrator&) = delete;
  Orchestrator& operator=(const Orchestrator&) = delete;
  int run();  // the exit code

 private:
  struct Client {
    pid_t pid = 0;
    bool killed = false, reported = false;
    uint64_t continue_at = 0;  // stopped until then; 0: runs
    uint64_t progress = 0, progress_at = 0;
  };
  void spawn(unsigned i);
  void reap();
  void reaped(pid_t pid, int status);
  void disturb(uint64_t now);
  void check_stuck(uint64_t now);
  void collect();
  void second(uint64_t now);
  void kill_manager();
  Totals totals();
  void finish();
  void check_space();
  void check_metadata();
  void end_stragglers();
  void found(const std::string& kind, const std::string& text);
  bool any_alive() const;
  bool done(uint64_t now) const;
  void watch();  // the watchdog's thread

  const Options options_;
  std::mt19937_64 rng_;
  std::unique_ptr<ManagerProcess> manager_;
  std::string volume_path_, own_directory_, program_;
  std::unique_ptr<pmfs::Volume> volume_;
  int control_fd_ = -1;
  ControlBlock* cb_ = nullptr;
  std::unique_ptr<PteOracle> pte_;
  std::vector<Client> clients_;
  uint64_t ordinal_ = 0, start_ns_ = 0, last_second_ns_ = 0, last_disturb_ns_ = 0;
  unsigned collected_ = 0;
  pmfs::proto::WireCounters first_counters_{};
  Totals last_totals_, dead_totals_;  // dead: of the managers that were killed
  Summary summary_;
  bool manager_dead_ = false;
  std::atomic<uint64_t> heartbeat_ns_{0};
  std::atomic<bool> watchdog_stop_{false};
  std::atomic<pid_t> manager_pid_{-1};
  std::thread watchdog_;
};

extern std::atomic<bool> g_interrupted;  // SIGINT or SIGTERM came

}  // namespace torture
