// Names: create+close+unlink, rename and stat per second, through libpmfs and on directories of the kernel's file systems,
// in turns, in one run: medians, and ratios to the first directory.
//
//   pmfs-bench-names --volume DIR --dir NAME=PATH ... [--rounds 15] [--count 2000] [--realtime] [--json]
//
// The volume is served by somebody else: with --realtime by chrt -f 10 pmfs serve DIR.
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <system_error>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/median.h"
#include "pmfs/pmfs.h"

namespace {

using Clock = std::chrono::steady_clock;

void check(bool ok, const char* what) {
  if (!ok) throw std::system_error(errno, std::generic_category(), what);
}

struct Names {
  std::string name;
  std::function<void()> create, swap_names, stat;
};

Names through_libpmfs(pmfs_volume* v) {
  const int a = pmfs_open(v, "/a", O_CREAT | O_RDWR, 0644);
  check(a >= 0 && pmfs_close(a) == 0, "create a");
  return {"libpmfs",
          [v] {
            const int fd = pmfs_open(v, "/new", O_CREAT | O_EXCL | O_WRONLY, 0644);
            check(fd >= 0, "create");
            check(pmfs_close(fd) == 0, "close");
            check(pmfs_unlink(v, "/new") == 0, "unlink");
          },
          [v] { check(pmfs_rename(v, "/a", "/b") == 0 && pmfs_rename(v, "/b", "/a") == 0, "rename"); },
          [v] {
            struct stat st;
            check(pmfs_stat(v, "/a", &st) == 0, "stat");
          }};
}

Names through_the_kernel(const std::string& name, const std::string& dir) {
  const int at = ::open(dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  check(at >= 0, dir.c_str());
  const int a = ::openat(at, "a", O_CREAT | O_RDWR, 0644);
  check(a >= 0 && ::close(a) == 0, "create a");
  return {name,
          [at] {
            const int fd = ::openat(at, "new", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
            check(fd >= 0, "create");
            check(::close(fd) == 0, "close");
            check(::unlinkat(at, "new", 0) == 0, "unlink");
          },
          [at] { check(::renameat(at, "a", at, "b") == 0 && ::renameat(at, "b", at, "a") == 0, "rename"); },
          [at] {
            struct stat st;
            check(::fstatat(at, "a", &st, 0) == 0, "stat");
          }};
}

double rate(unsigned count, unsigned each, const std::function<void()>& f) {
  const auto begin = Clock::now();
  for (unsigned i = 0; i < count; i += each) f();
  return count / std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app("names per second, through libpmfs and on directories");
  std::string volume;
  std::vector<std::string> dirs;
  unsigned rounds = 15, count = 2000;
  bool json = false, realtime = false;
  app.add_option("--volume", volume, "a volume that is served")->required();
  app.add_option("--dir", dirs, "NAME=PATH")->required();
  app.add_option("--rounds", rounds)->check(CLI::Range(1u, 1000u));
  app.add_option("--count", count)->check(CLI::Range(2u, 1000000u));
  app.add_flag("--realtime", realtime, "before whatever else the machine does (SCHED_FIFO)");
  app.add_flag("--json", json);
  CLI11_PARSE(app, argc, argv);
  if (realtime) {
    const sched_param p{.sched_priority = 10};
    check(::sched_setscheduler(0, SCHED_FIFO, &p) == 0, "SCHED_FIFO");
  }
  pmfs_volume* v = pmfs_connect(volume.c_str());
  check(v != nullptr, "connect");
  std::vector<Names> all{through_libpmfs(v)};
  for (const std::string& d : dirs) {
    const size_t equals = d.find('=');
    if (equals == std::string::npos) throw std::invalid_argument(d + ": is not NAME=PATH");
    all.push_back(through_the_kernel(d.substr(0, equals), d.substr(equals + 1)));
  }
  const char* const kinds[] = {"create+close+unlink", "rename", "stat"};
  std::map<std::string, std::map<std::string, std::vector<double>>> figures;
  for (unsigned r = 0; r < rounds; ++r) {
    for (const Names& n : all) {
      figures[kinds[0]][n.name].push_back(rate(count, 1, n.create));
      figures[kinds[1]][n.name].push_back(rate(count, 2, n.swap_names));
      figures[kinds[2]][n.name].push_back(rate(count, 1, n.stat));
    }
  }
  pmfs_disconnect(v);
  nlohmann::ordered_json out;
  if (!json) fmt::print("{:22}", "per second");
  for (const Names& n : all)
    if (!json) fmt::print("{:>24}", n.name);
  if (!json) fmt::print("\n");
  for (const char* kind : kinds) {
    const double ours = pmfs::bench::median(figures[kind]["libpmfs"]);
    if (!json) fmt::print("{:22}", kind);
    for (const Names& n : all) {
      const double m = pmfs::bench::median(figures[kind][n.name]);
      out[kind][n.name] = m;
      if (!json) fmt::print("{:14.0f} ({:6.2f})", m, ours / m);
    }
    if (!json) fmt::print("\n");
  }
  if (json) {
    fmt::print("{}\n", out.dump(1));
  } else {
    fmt::print("in brackets: what libpmfs does for each of these; medians of {} rounds of {}\n", rounds, count);
  }
  return 0;
} catch (const std::exception& e) {
  fmt::print(stderr, "pmfs-bench-names: {}\n", e.what());
  return 1;
}
