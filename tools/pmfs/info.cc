// pmfs df, clients, counters, shutdown: what a manager says about itself.

#include <chrono>
#include <memory>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fmt/format.h>

#include "lib/admin.h"
#include "pmfs/base/unique_fd.h"
#include "pmfs/pmfs.hpp"
#include "tools/pmfs/figures.h"
#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string dir;
  unsigned timeout = 30;
};

void df(const Context& c, const std::string& dir) {
  const StatFs s = Volume(dir).statfs();
  // One moment's counts; while the volume is written to they are taken one after the other.
  const uint64_t sum = s.blocks_used + s.blocks_free + s.blocks_reserved + s.blocks_deferred + s.blocks_zero;
  const bool adds_up = sum == s.blocks_total;
  if (c.json) {
    return print_json({{"volume", dir},
                       {"uuid", s.uuid},
                       {"region_kind", s.region_kind},
                       {"granularity", s.granularity},
                       {"exclusion", s.exclusion},
                       {"sparse", s.sparse},
                       {"manager_pid", s.manager_pid},
                       {"mount_epoch", s.mount_epoch},
                       {"clients", s.clients},
                       {"block_size", s.block_size},
                       {"unit_bytes", s.unit_bytes},
                       {"blocks_total", s.blocks_total},
                       {"blocks_used", s.blocks_used},
                       {"blocks_free", s.blocks_free},
                       {"blocks_reserved", s.blocks_reserved},
                       {"blocks_deferred", s.blocks_deferred},
                       {"blocks_zero", s.blocks_zero},
                       {"adds_up", adds_up},
                       {"inodes_used", s.inodes_used},
                       {"meta_bytes_total", s.meta_bytes_total},
                       {"meta_bytes_used", s.meta_bytes_used}});
  }
  fmt::print("volume       {}, uuid {}\n", printable(dir), s.uuid);
  const bool large = s.unit_bytes > s.block_size;
  fmt::print("region       {}{}, persistence by {}, blocks of {} bytes{}\n", s.region_kind, s.sparse ? ", sparse" : "",
             s.granularity, s.block_size, large ? fmt::format(" in units of {}", human_size(s.unit_bytes)) : "");
  fmt::print("manager      process {}, exclusion {}, mount {}, {} client{}\n", s.manager_pid, s.exclusion,
             s.mount_epoch, s.clients, s.clients == 1 ? "" : "s");
  const auto row = [&](const char* what, uint64_t blocks, const char* note) {
    const double share = s.blocks_total == 0 ? 0 : 100.0 * static_cast<double>(blocks) /
                                                       static_cast<double>(s.blocks_total);
    fmt::print("{:<10} {:>14} {:>12} {:>6.1f} %  {}\n", what, blocks, human_size(blocks * s.block_size), share, note);
  };
  fmt::print("\n{:<10} {:>14} {:>12}\n", "", "blocks", "bytes");
  row("used", s.blocks_used, "in files");
  row("reserved", s.blocks_reserved, "set aside for files that grow; given back when space is short");
  row("zero", s.blocks_zero, "mapped for readers of holes; given back when space is short");
  row("deferred", s.blocks_deferred, "left their file, not free yet");
  row("free", s.blocks_free, "");
  row("total", s.blocks_total,
      adds_up ? "the sum of these" : "NOT the sum of these: the volume changed meanwhile, or is damaged");
  fmt::print("\ninodes     {:>14}\nmetadata   {:>14} of {}\n", s.inodes_used, human_size(s.meta_bytes_used),
             human_size(s.meta_bytes_total));
}

void clients(const Context& c, const std::string& dir) {
  const std::vector<ClientInfo> all = Volume(dir).clients();
  if (c.json) {
    Json list = Json::array();
    for (const ClientInfo& i : all) {
      list.push_back({{"id", i.id}, {"pid", i.pid}, {"uid", i.uid}, {"mappings", i.mappings},
                      {"mapped_bytes", i.mapped_bytes}, {"handles", i.handles}, {"faults", i.faults},
                      {"installs", i.installs}, {"agent_queue", i.agent_queue}, {"ready", i.has_uffd}, {"read_only", i.read_only},
                      {"revokes", i.revokes}, {"revoke_age_ns", i.revoke_age_ns},
                      {"self", i.pid == static_cast<uint32_t>(getpid())}});
    }
    return print_json({{"volume", dir}, {"clients", list}});
  }
  fmt::print("{:>6} {:>8} {:>6} {:>8} {:>12} {:>8} {:>12} {:>12} {:>6}\n", "id", "pid", "uid", "mappings", "mapped",
             "handles", "faults", "installs", "queue");
  for (const ClientInfo& i : all) {
    fmt::print("{:>6} {:>8} {:>6} {:>8} {:>12} {:>8} {:>12} {:>12} {:>6}{}{}{}\n", i.id, i.pid, i.uid, i.mappings,
               human_size(i.mapped_bytes), i.handles, i.faults, i.installs, i.agent_queue,
               i.pid == static_cast<uint32_t>(getpid()) ? "  this command" : "", i.has_uffd ? "" : "  connecting",
               i.read_only ? "  read-only" : "");
    if (i.revokes != 0)
      fmt::print("{:>16} holds blocks that it was asked for {:.1f} s ago\n", "", static_cast<double>(i.revoke_age_ns) * 1e-9);
  }
}

void counters(const Context& c, const std::string& dir) {
  Json j = Json::object();
  for (const Figure& f : figures_of(Volume(dir))) {
    if (c.json) {
      j[f.name] = f.value;
    } else {
      fmt::print("{:<20} {:>16}\n", f.name, f.value);
    }
  }
  if (c.json) print_json({{"volume", dir}, {"counters", j}});
}

// Asks, and returns when the manager has unmounted and ended.
void shutdown(const Context& c, const Options& o) {
  int pid = 0;
  UniqueFd manager;
  {
    Volume v(o.dir);
    pid = v.statfs().manager_pid;
    manager = UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    admin::shutdown(v.session());
  }
  if (manager && o.timeout > 0) {
    pollfd p{manager.get(), POLLIN, 0};
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(o.timeout);
    int n;
    do {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
      n = poll(&p, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
    } while (n < 0 && errno == EINTR);
    if (n == 0) {
      throw Error(ETIMEDOUT, fmt::format("{}: process {} was asked to stop and has not ended after {} s; wait, or see "
                                         "what it logs", o.dir, pid, o.timeout));
    }
  }
  if (c.json) print_json({{"volume", o.dir}, {"manager_pid", pid}, {"stopped", manager && o.timeout > 0}});
}

}  // namespace

void add_info(CLI::App& app, Context& c) {
  auto o = std::make_shared<Options>();
  constexpr const char* kDir = "directory of a served volume";
  CLI::App* cmd = add_command(app, c, "df", "Show a volume's region, its manager and the use of its blocks",
                              "  pmfs df /dev/shm/vol\n  pmfs df /dev/shm/vol --json\n", [&c, o] { df(c, o->dir); });
  cmd->add_option("DIR", o->dir, kDir)->required();

  cmd = add_command(app, c, "clients", "List the processes connected to a volume's manager",
                    "  pmfs clients /dev/shm/vol\n", [&c, o] { clients(c, o->dir); });
  cmd->add_option("DIR", o->dir, kDir)->required();

  cmd = add_command(app, c, "counters", "Show a manager's counters and latencies",
                    "  pmfs counters /dev/shm/vol\n", [&c, o] { counters(c, o->dir); });
  cmd->add_option("DIR", o->dir, kDir)->required();

  cmd = add_command(app, c, "shutdown", "Stop a volume's manager cleanly",
                    "  pmfs shutdown /dev/shm/vol\n"
                    "  pmfs shutdown /dev/shm/vol --timeout 0    don't wait for its end\n",
                    [&c, o] { shutdown(c, *o); });
  cmd->add_option("DIR", o->dir, kDir)->required();
  cmd->add_option("--timeout", o->timeout, "seconds to wait until it has ended")
      ->check(CLI::Range(0, 86400))->capture_default_str();
}

}  // namespace pmfs::cli
