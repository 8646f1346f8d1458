// The end of a run: everybody leaves, and what they held must have come back.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include <fmt/format.h>

#include "lib/admin.h"
#include "pmfs/base/error.h"
#include "tools/torture/orchestrator.h"

namespace torture {

namespace {
constexpr double kLeaveBound = 20, kSpaceBound = 10;  // seconds

uint64_t after(double seconds) { return now_ns() + static_cast<uint64_t>(seconds * 1e9); }
}  // namespace

bool Orchestrator::any_alive() const {
  return std::any_of(clients_.begin(), clients_.end(), [](const Client& c) { return c.pid != 0; });
}

void Orchestrator::finish() {
  cb_->stop = 1;
  for (Client& c : clients_)
    if (c.pid != 0) kill(c.pid, SIGCONT);
  bool in_time = true;
  // Without a manager faults wait for ever.
  for (uint64_t bound = after(manager_dead_ ? 1 : kLeaveBound); any_alive();) {
    heartbeat_ns_ = now_ns();
    reap();
    if (in_time && now_ns() > bound) {
      in_time = false;
      for (unsigned i = 0; i < clients_.size(); ++i) {
        Client& c = clients_[i];
        if (c.pid == 0) continue;
        if (!manager_dead_ && !c.reported)
          found("stuck", fmt::format("client {} (pid {}) does not leave within {:.0f} s", i, c.pid, kLeaveBound));
        c.killed = true;
        kill(c.pid, SIGKILL);
      }
    }
    usleep(2000);
  }
  end_stragglers();
  collect();
  if (pte_) {
    summary_.pte_rounds = pte_->rounds();
    summary_.pte_pages = pte_->pages();
    pte_.reset();
  }
  summary_.totals = last_totals_;
  for (const ClientSlot& c : cb_->clients) {
    for (size_t op = 1; op < static_cast<size_t>(OpKind::kCount); ++op)
      summary_.ops[op_name(static_cast<OpKind>(op))] += c.counts[op].load();
    summary_.sigbus += c.sigbus.load();
    summary_.no_space += c.no_space.load();
  }
  // After a violation the books may well be wrong: that would say nothing new.
  if (manager_ && !manager_dead_ && summary_.violations.empty()) {
    try {
      check_space();
    } catch (const pmfs::Error& e) {
      found("error", "at the end: " + e.message());
    }
    if (options_.kill_manager) check_metadata();
  }
}

// Forked children that nobody knows of (their parent was killed right after the fork).
void Orchestrator::end_stragglers() {
  for (Client& c : clients_)
    if (c.pid != 0) kill(c.pid, SIGKILL);
  for (uint64_t bound = after(5); now_ns() < bound;) {
    std::ifstream children(fmt::format("/proc/self/task/{}/children", getpid()));
    bool any = false;
    for (pid_t pid; children >> pid;) {
      if (manager_ && pid == manager_->pid()) continue;
      any = true;
      kill(pid, SIGKILL);
    }
    reap();
    if (!any) return;
    usleep(2000);
  }
}

// What so many crashes have made of the metadata.
void Orchestrator::check_metadata() {
  volume_.reset();
  manager_pid_ = -1;
  if (!manager_->stop()) found("manager-died", "it did not stop cleanly:\n" + manager_->log_tail());
  manager_dead_ = true;
  if (std::string said = manager_->fsck(); !said.empty()) found("fsck", said);
}

// Nobody maps anything any more: what is used is what the files own, and nothing is reserved, deferred or a zero block.
void Orchestrator::check_space() {
  pmfs::StatFs s{};
  uint64_t owned = 0, bound = after(kSpaceBound);
  for (;;) {
    heartbeat_ns_ = now_ns();
    owned = 0;
    for (const pmfs::Dirent& d : volume_->list("/")) owned += volume_->stat("/" + d.name).blocks;
    s = volume_->statfs();
    bool adds_up = s.blocks_used == owned && s.blocks_reserved == 0 && s.blocks_deferred == 0 && s.blocks_zero == 0 &&
                   s.blocks_free + s.blocks_used == s.blocks_total;
    if (adds_up) return;
    if (now_ns() > bound) break;
    usleep(20'000);
  }
  found("leak", fmt::format("with all clients gone {} blocks are used of which files own {}; reserved {}, deferred {}, zero "
                            "blocks {}, free {} of {}",
                            s.blocks_used, owned, s.blocks_reserved, s.blocks_deferred, s.blocks_zero, s.blocks_free,
                            s.blocks_total));
}

}  // namespace torture
