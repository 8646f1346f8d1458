#include "tools/torture/orchestrator.h"

#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "lib/admin.h"
#include "pmfs/base/error.h"
#include "tools/torture/stamp.h"

extern char** environ;

namespace torture {

std::atomic<bool> g_interrupted{false};

namespace {
constexpr uint64_t kMs = 1'000'000, kSecond = 1'000'000'000;
constexpr uint64_t kStuckNs = 20 * kSecond, kWatchdogNs = 45 * kSecond;
constexpr uint64_t kLongestStopMs = 150;
}  // namespace

Orchestrator::Orchestrator(const Options& o) : options_(o), rng_(o.seed), clients_(o.clients) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);  // the forked children of killed clients are ours to bury
  program_ = std::filesystem::read_symlink("/proc/self/exe").string();
  Config c{};
  c.seed = o.seed;
  c.file_pages = o.file_bytes / kPage;
  c.files = o.files;
  c.clients = o.clients;
  std::copy(o.mix.begin(), o.mix.end(), c.weights);
  c.is_target = !o.target.empty();
  c.kills_manager = o.kill_manager;
  if (o.target.empty() && o.volume.empty()) {
    manager_ = std::make_unique<ManagerProcess>(o);
    manager_pid_ = manager_->pid();
    volume_path_ = manager_->volume();
  } else if (!o.volume.empty()) {
    volume_path_ = o.volume;
  }
  try {
    if (o.target.empty()) volume_ = std::make_unique<pmfs::Volume>(volume_path_);
    own_directory_ = fmt::format("{}/pmfs-torture.{}", o.target, getpid());
    if (c.is_target) {
      std::filesystem::create_directory(own_directory_);
    } else if (!manager_) {
      volume_->mkdir(own_directory_, 0700);
    }
    std::snprintf(c.path, sizeof c.path, "%s", c.is_target ? own_directory_.c_str() : volume_path_.c_str());
    if (!c.is_target && !manager_) std::snprintf(c.prefix, sizeof c.prefix, "%s", own_directory_.c_str());
    c.map_pages = c.unit_pages = 1;
    if (volume_) {
      c.map_pages = static_cast<uint32_t>(volume_->session().map_align() / kPage);
      const uint64_t unit = volume_->statfs().unit_bytes;
      c.unit_pages = static_cast<uint32_t>(unit / kPage);
      uint64_t most = (o.file_bytes + unit - 1) / unit * (unit / kPage) * o.files * kAreasPerFile;
      c.may_fill = volume_->statfs().blocks_free < most + most / 4;
      if (c.may_fill != 0) summary_.note = "the volume may fill up: SIGBUS inside a file is taken for ENOSPC";
    }
    cb_ = create_control_block(c, &control_fd_);
    for (unsigned f = 0; f < o.files; ++f) cb_->files[f].retire = 1;  // the first client makes it
    if (volume_) {
      first_counters_ = pmfs::admin::counters(volume_->session());
      try {
        pte_ = std::make_unique<PteOracle>(cb_, volume_path_);
      } catch (const pmfs::Error& e) {
        if (manager_) throw;
        summary_.note = "PTE oracle off: " + e.message();
      }
    }
  } catch (const std::filesystem::filesystem_error& e) {
    throw pmfs::Error(e.code().value(), e.what());
  }
  heartbeat_ns_ = now_ns();
  watchdog_ = std::thread([this] { watch(); });
}

Orchestrator::~Orchestrator() {
  end_stragglers();
  pte_.reset();
  try {
    if (volume_ && !manager_ && !manager_dead_) {
      for (const pmfs::Dirent& d : volume_->list(own_directory_)) volume_->unlink(own_directory_ + "/" + d.name);
      volume_->rmdir(own_directory_);
    }
    volume_.reset();
  } catch (const pmfs::Error& e) {
    fmt::print(stderr, "pmfs-torture: {} is left in the volume: {}\n", own_directory_, e.message());
  }
  std::error_code ignored;
  if (!options_.target.empty()) std::filesystem::remove_all(own_directory_, ignored);
  watchdog_stop_ = true;
  if (watchdog_.joinable()) watchdog_.join();
}

// A manager that does not answer would hang us with it: end it, then every call fails with ENOTCONN.
void Orchestrator::watch() {
  while (!watchdog_stop_.load()) {
    usleep(100'000);
    if (now_ns() - heartbeat_ns_.load() < kWatchdogNs) continue;
    pid_t pid = manager_pid_.exchange(-1);
    report_violation(cb_, 0, "stuck", "the manager does not answer");
    if (pid > 0) kill(pid, SIGKILL);
    heartbeat_ns_ = now_ns();
  }
}

void Orchestrator::spawn(unsigned i) {
  std::string fd = "3", index = std::to_string(i), ordinal = std::to_string(ordinal_++);
  std::string hidden = "--worker";
  char* argv[] = {program_.data(), hidden.data(), fd.data(), index.data(), ordinal.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, control_fd_, 3);
  pid_t pid = 0;
  int err = posix_spawn(&pid, program_.c_str(), &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (err != 0) pmfs::fail(err, "{}: {}", program_, std::strerror(err));
  cb_->clients[i].pid = pid;
  clients_[i] = {pid, false, false, 0, cb_->clients[i].progress.load(), now_ns()};
}

void Orchestrator::reap() {
  int status = 0;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) reaped(pid, status);
}

void Orchestrator::reaped(pid_t pid, int status) {
  if (manager_ && pid == manager_->pid()) {
    manager_->reaped();
    manager_pid_ = -1;
    manager_dead_ = true;
    found("manager-died", fmt::format("wait status {:#x}; its log ends:\n{}", status, manager_->log_tail()));
    return;
  }
  for (unsigned i = 0; i < clients_.size(); ++i) {
    Client& c = clients_[i];
    if (cb_->clients[kMaxClients + i].pid.load() == pid) bury(cb_, kMaxClients + i);
    if (c.pid != pid) continue;
    bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0 && cb_->stop.load() != 0;
    bool told = WIFEXITED(status) && WEXITSTATUS(status) == 3 && cb_->violation_count.load() != 0;
    if (!clean && !c.killed && !told && !manager_dead_)
      found("client-died", fmt::format("client {} (pid {}) died by itself: {}", i, pid,
                                       WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : fmt::format("exit {}", WEXITSTATUS(status))));
    bury(cb_, i);
    c.pid = 0;
  }
}

// Stops, continues and kills clients at any point of whatever they do.
void Orchestrator::disturb(uint64_t now) {
  double elapsed = static_cast<double>(now - last_disturb_ns_) * 1e-9;
  last_disturb_ns_ = now;
  std::uniform_real_distribution<double> chance(0, 1);
  auto any = [&]() -> Client& { return clients_[rng_() % clients_.size()]; };
  if (chance(rng_) < options_.stops * elapsed) {
    Client& c = any();
    if (c.pid != 0 && c.continue_at == 0 && kill(c.pid, SIGSTOP) == 0) {
      c.continue_at = now + (1 + rng_() % kLongestStopMs) * kMs;
      ++summary_.stops;
    }
  }
  if (options_.kill_manager && chance(rng_) < options_.manager_kills * elapsed) kill_manager();
  if (options_.kill_clients && chance(rng_) < options_.kills * elapsed) {
    Client& c = any();
    if (c.pid != 0 && !c.killed && kill(c.pid, SIGKILL) == 0) {
      c.killed = true;
      ++summary_.kills;
    }
  }
  for (unsigned i = 0; i < clients_.size(); ++i) {
    Client& c = clients_[i];
    if (c.continue_at != 0 && now >= c.continue_at) {
      if (c.pid != 0) kill(c.pid, SIGCONT);
      c.continue_at = 0;
      c.progress_at = now;
    }
    if (c.pid == 0 && cb_->clients[kMaxClients + i].pid.load() == 0) spawn(i);
  }
}

// At any point of whatever it does. Its clients go on with the next one, and so do our own connections.
void Orchestrator::kill_manager() {
  dead_totals_ = totals();
  first_counters_ = {};
  manager_pid_ = -1;
  manager_->kill_and_restart();
  manager_pid_ = manager_->pid();
  ++summary_.manager_kills;
  heartbeat_ns_ = now_ns();
}

Totals Orchestrator::totals() {
  return dead_totals_ + totals_of(pmfs::admin::counters(volume_->session()), first_counters_);
}

void Orchestrator::check_stuck(uint64_t now) {
  for (unsigned i = 0; i < clients_.size(); ++i) {
    Client& c = clients_[i];
    const ClientSlot& slot = cb_->clients[i];
    uint64_t progress = slot.progress.load();
    if (c.pid == 0 || c.continue_at != 0 || progress != c.progress || now < c.progress_at) {
      c.progress = progress;
      c.progress_at = now;
    } else if (now - c.progress_at > kStuckNs && !c.reported) {
      c.reported = true;
      uint64_t head = slot.ring_head.load();
      const OpRecord& r = slot.ring[(head - 1) % kRingSize];
      found("stuck", fmt::format("client {} (pid {}) has been in {} of file {}, bytes {}+{}, for {} s", i, c.pid,
                                 op_name(r.op), r.file, r.first, r.count, kStuckNs / kSecond));
    }
  }
}

void Orchestrator::found(const std::string& kind, const std::string& text) {
  summary_.violations.push_back({kind, text, {}, {}, {}});
}

void Orchestrator::collect() {
  uint32_t n = std::min(cb_->violation_count.load(), kMaxViolations);
  for (; collected_ < n; ++collected_) {
    const Violation& v = cb_->violations[collected_];
    if (v.state.load(std::memory_order_acquire) != 2) return;  // its words are still being written
    Found f{v.kind, v.text, {}, {}, {}};
    if (v.file < options_.files) f.interleaved = interleaved(*cb_, v);
    if (v.pfn != ~uint64_t{0} && volume_ && !manager_dead_) {
      try {
        f.trace = pmfs::admin::trace(volume_->session(), v.pfn);
        f.met = met(f.trace);
      } catch (const pmfs::Error& e) {
        f.trace = "  not to be had: " + e.message() + "\n";
      }
    }
    summary_.violations.push_back(std::move(f));
  }
}

void Orchestrator::second(uint64_t now) {
  Totals t = options_.target.empty() && !manager_dead_
                 ? totals()
                 : (manager_dead_ ? last_totals_ : totals_of_target(*cb_));
  if (t.canary_errors > last_totals_.canary_errors)
    found("canary", fmt::format("{} freed blocks were written to before they were used again", t.canary_errors));
  if (pte_ && !pte_->error().empty() && !manager_dead_) found("error", "PTE oracle: " + pte_->error());
  if (!options_.quiet)
    print_progress(t, last_totals_, static_cast<double>(now - start_ns_) * 1e-9, options_.seconds,
                   summary_.violations.size() + cb_->violation_count.load() - collected_);
  last_totals_ = t;
  if (cb_->epoch.load() > kMaxEpoch - 100'000) {
    summary_.note = "ended early: the generations of the stamps are used up";
    g_interrupted = true;
  }
}

bool Orchestrator::done(uint64_t now) const {
  bool violated = !summary_.violations.empty() || cb_->violation_count.load() != 0;
  return g_interrupted.load() || manager_dead_ || (violated && !options_.keep_going) ||
         static_cast<double>(now - start_ns_) * 1e-9 >= options_.seconds;
}

int Orchestrator::run() {
  for (unsigned i = 0; i < clients_.size(); ++i) spawn(i);
  start_ns_ = last_second_ns_ = last_disturb_ns_ = now_ns();
  try {
    for (uint64_t now = start_ns_; !done(now); now = now_ns()) {
      heartbeat_ns_ = now;
      reap();
      disturb(now);
      check_stuck(now);
      collect();
      if (now - last_second_ns_ >= kSecond) {
        last_second_ns_ += kSecond;
        second(now);
      }
      usleep(5000);
    }
    summary_.seconds = static_cast<double>(now_ns() - start_ns_) * 1e-9;
    if (!manager_dead_) second(now_ns());
  } catch (const pmfs::Error& e) {
    summary_.seconds = static_cast<double>(now_ns() - start_ns_) * 1e-9;
    reap();
    if (!manager_dead_) found("error", e.message());
  }
  finish();
  print_summary(options_, summary_);
  return summary_.violations.empty() ? 0 : 1;
}

}  // namespace torture
