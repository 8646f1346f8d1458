// pmfs-crash: explores what a power cut can leave of a volume. Exit code: 0 nothing bad, 1 something, 2 usage, 3 could
// not run.

#include <chrono>
#include <cstdio>

#include <malloc.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "pmfs/base/error.h"
#include "tools/crash/explore.h"
#include "tools/crash/workers.h"

namespace pmfs::crash {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  Limits limits;
  uint64_t states = 3000;  // images
  size_t long_ops = 12;
  unsigned processes = 2;
  size_t most_findings = 20;
  bool long_run = false, json = false, quiet = false;
  std::string sabotage = "none", workload;
};

const std::map<std::string, Sabotage> kSabotages{{"none", Sabotage::kNone},
                                                 {"fence", Sabotage::kFence},
                                                 {"log-flush", Sabotage::kLogFlush},
                                                 {"data-flush", Sabotage::kDataFlush},
                                                 {"data-order", Sabotage::kDataOrder},
                                                 {"snapshot", Sabotage::kSnapshot},
                                                 {"zap", Sabotage::kZap}};

int parse(int argc, char** argv, Options* o) {
  CLI::App app(
      "Explores what a power cut can leave of a volume. Records every store, flush and fence of workloads; builds the\n"
      "images that a cut at each fence could leave (subsets of the cache lines that are not durable yet); mounts "
      "each,\n"
      "checks it, and compares it with what was promised: what had returned is there, what was under way is there\n"
      "whole or not at all (docs/durability.md), no block is owned twice or lost, no stale bytes are read.");
  app.footer(
      "Examples:\n"
      "  pmfs-crash                                  the beginning of the plan: all workloads of one operation\n"
      "  pmfs-crash --long                           all of one and two operations, and seeded long ones; 10^5 images\n"
      "  pmfs-crash --sabotage log-flush             broken on purpose: must be found, so exit code 1\n"
      "  pmfs-crash --workload 'rename /a /c; write /c 0 100'\n\n"
      "Exit code: 0 nothing bad, 1 something bad was found, 2 usage, 3 could not run.");
  std::string names;
  for (const auto& [name, s] : kSabotages) names += (names.empty() ? "" : ", ") + name;
  app.add_option("--states", o->states, "different images to look at, about")
      ->check(CLI::Range(1ul, 1'000'000'000ul))
      ->capture_default_str();
  app.add_flag("--long", o->long_run, "the whole plan, and on until 120000 images (or --states, if it is more)");
  app.add_option("--seed", o->limits.seed, "of the long workloads and of samples")->capture_default_str();
  app.add_option("--per-step", o->limits.per_step, "images of one step (fence), at most; of long workloads half")
      ->check(CLI::Range(4, 1 << 20))
      ->capture_default_str();
  app.add_option("--recovery-every", o->limits.recovery_every,
                 "of so many images the recovery of one is cut too; 0: of none")
      ->capture_default_str();
  app.add_option("--long-ops", o->long_ops, "operations of a long workload")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--jobs", o->processes, "processes")->check(CLI::Range(1, 64))->capture_default_str();
  app.add_option("--sabotage", o->sabotage, "as if the code had this fault: " + names)
      ->capture_default_str()
      ->check(CLI::IsMember(kSabotages));
  app.add_option("--workload", o->workload, "only this one, separated by ';'");
  app.add_flag("--json", o->json, "the result as one JSON document");
  app.add_flag("--quiet", o->quiet, "no progress line");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  o->limits.sabotage = kSabotages.at(o->sabotage);
  return -1;
}

struct WorkDir {
  std::filesystem::path path;
  WorkDir() {
    std::string name = "/dev/shm/pmfs-crash-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) fail(errno, "{}: can't be made", name);
    path = name;
  }
  ~WorkDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

enum Count : size_t { kImages, kSteps, kComplete, kRecoveries, kWorkloads, kBad };

int run(Options& o) {
  WorkDir work;
  Explorer::make_start(work.path / "start");
  Workers workers;
  if (o.long_run) o.states = std::max<uint64_t>(o.states, 120'000);
  const uint64_t plan = o.workload.empty() ? exhaustive_count() : 1;
  const Workload only = o.workload.empty() ? Workload{} : parse_workload(o.workload);
  auto begin = Clock::now();
  auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  const bool terminal = ::isatty(STDERR_FILENO) != 0 && !o.quiet;
  auto progress = [&] {
    if (!terminal) return;
    fmt::print(stderr, "\r{:>8} workloads {:>9} images {:>6.0f}/s {:>4} bad ", workers.counted(kWorkloads),
               workers.counted(kImages), static_cast<double>(workers.counted(kImages)) / seconds(),
               workers.counted(kBad));
    std::fflush(stderr);
  };
  auto enough = [&](uint64_t n) {
    if (workers.counted(kBad) >= o.most_findings) return true;
    if (!o.workload.empty()) return n >= 1;
    return workers.counted(kImages) >= o.states && (!o.long_run || n >= plan);
  };
  auto make = [&](unsigned child) -> Workers::Job {
    auto tally = std::make_shared<Tally>();
    auto explorer = std::make_shared<Explorer>(
        work.path / std::to_string(child), work.path / "start", o.limits,
        [&workers](const Finding& f) {
          workers.count(kBad, 1);
          workers.found(fmt::format("{} [step {}, image {}]: {}", f.workload, f.step, f.image, f.what));
        },
        [&workers](const std::string& doing) { workers.beat(doing); });
    return [&workers, &o, &only, explorer, tally](uint64_t n) {
      Tally t;
      explorer->explore(only.empty() ? planned(n, o.limits.seed, o.long_ops) : Planned{only, 0}, &t);
      workers.count(kImages, t.images);
      workers.count(kSteps, t.steps);
      workers.count(kComplete, t.complete_steps);
      workers.count(kRecoveries, t.recoveries);
      workers.count(kWorkloads, 1);
    };
  };
  auto findings = workers.run({o.processes, 120}, 0, enough, make, progress);
  if (terminal) fmt::print(stderr, "\r{:70}\r", "");
  const bool bad = !findings.empty();
  if (o.json) {
    nlohmann::ordered_json j{{"seed", o.limits.seed},
                             {"sabotage", o.sabotage},
                             {"workloads", workers.counted(kWorkloads)},
                             {"steps", workers.counted(kSteps)},
                             {"steps_complete", workers.counted(kComplete)},
                             {"images", workers.counted(kImages)},
                             {"recoveries_cut", workers.counted(kRecoveries)},
                             {"bad", findings.size()},
                             {"seconds", seconds()},
                             {"findings", findings}};
    fmt::print("{}\n", j.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  } else {
    for (const std::string& f : findings) fmt::print("BAD {}\n", f);
    fmt::print(
        "{} workloads, {} fences ({} with all images), {} different images mounted and judged, {} recoveries cut "
        "again; "
        "{:.0f} s\n{}\n",
        workers.counted(kWorkloads), workers.counted(kSteps), workers.counted(kComplete), workers.counted(kImages),
        workers.counted(kRecoveries), seconds(), bad ? fmt::format("{} bad", findings.size()) : "0 bad");
  }
  return bad ? 1 : 0;
}

}  // namespace
}  // namespace pmfs::crash

int main(int argc, char** argv) {
  using namespace pmfs::crash;
  // libpmemobj allocates and frees ten thousand pieces at every open; they need not go back to the kernel.
  mallopt(M_TOP_PAD, 64 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
  mallopt(M_MMAP_THRESHOLD, 256 << 20);
  Options o;
  if (int code = parse(argc, argv, &o); code >= 0) return code;
  try {
    return run(o);
  } catch (const pmfs::Error& e) {
    fmt::print(stderr, "pmfs-crash: {}\n", e.what());
    return e.err() == EINVAL ? 2 : 3;
  } catch (const std::exception& e) {
    fmt::print(stderr, "pmfs-crash: {}\n", e.what());
    return 3;
  }
}
