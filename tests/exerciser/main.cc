// The exerciser: random operations on two files of a target, compared with a model in plain memory. Seeded: the same seed
// is the same list. A failure is shrunk and written to a file that --replay takes.
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>

#include <CLI/CLI.hpp>

#include "tests/exerciser/memory_target.h"
#include "tests/exerciser/runner.h"

using namespace pmfs::exerciser;

namespace {

struct Options {
  std::string volume, directory, replay, save = "exerciser-failure.txt", plant;
  bool memory = false, must_map = false;
  uint64_t ops = 100000, seed = 0;
  double shrink_seconds = 60;
};

std::unique_ptr<Target> make_target(const Options& o) {
  std::vector<std::unique_ptr<Target>> ways;
  if (o.memory) ways.push_back(memory_target());
  if (!o.volume.empty()) ways.push_back(native_target(o.volume));
  if (!o.directory.empty()) ways.push_back(directory_target(o.directory, o.must_map));
  if (ways.empty()) throw std::runtime_error("no target: --memory, --volume VOLUME, --directory DIR, or the last two for both at once");
  std::unique_ptr<Target> t = ways.size() == 1 ? std::move(ways[0]) : mixed_target(std::move(ways));
  if (o.plant.empty()) return t;
  t = planted_target(std::move(t), o.plant);
  if (!t) throw std::runtime_error("--plant " + o.plant + ": no such bug");
  return t;
}

// The last operations are kept for the shrinking: all of them, as any may matter.
std::optional<Failure> run_random(Target& t, const Options& o, std::vector<Op>& list, Counts& counts) {
  std::mt19937_64 random(o.seed);
  return run(t, [&](size_t i) -> const Op* {
    if (i == o.ops) return nullptr;
    list.push_back(random_op(random));
    return &list.back();
  }, &counts);
}

int exercise(const Options& o) {
  const auto t = make_target(o);
  std::string left_out;
  for (unsigned k = 0; k < kKinds; ++k)
    if (!t->can(static_cast<Kind>(k))) left_out.append(" ").append(name(static_cast<Kind>(k)));
  if (!left_out.empty()) std::printf("this target has no%s\n", left_out.c_str());

  std::vector<Op> list;
  Counts counts;
  std::optional<Failure> failure;
  const auto begin = std::chrono::steady_clock::now();
  if (!o.replay.empty()) {
    std::ifstream in(o.replay);
    if (!in) throw std::runtime_error(o.replay + ": can't be read");
    list = parse_all(in);
    failure = run(*t, list, &counts);
  } else {
    list.reserve(o.ops);
    failure = run_random(*t, o, list, counts);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("seed %lu: %lu operations, %lu left out, %.1f s, %.0f/s\n", o.seed, counts.done, counts.left_out, seconds,
              double(counts.done) / seconds);
  if (!failure) return 0;

  std::printf("FAILED at operation %zu: %s\n", failure->at, failure->what.c_str());
  list.resize(std::min(list.size(), failure->at + 1));
  list = shrink(*t, list, o.shrink_seconds);
  const auto again = run(*t, list);
  std::printf("%zu operations show it%s%s\n", list.size(), again ? ": " : ", but not every time", again ? again->what.c_str() : "");
  std::ofstream out(o.save);
  for (const Op& op : list) {
    std::printf("  %s\n", to_string(op).c_str());
    out << to_string(op) << "\n";
  }
  std::printf("--replay %s\n", o.save.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Random file operations against a model. Exit 0: all as it should be, 1: not, 2: could not run.");
  app.add_option("--volume", o.volume, "by libpmfs, on a volume that is served");
  app.add_option("--directory", o.directory, "by system calls, in this directory; with --volume: its mount, both at once");
  app.add_flag("--memory", o.memory, "on files in memory: a test of the exerciser");
  app.add_flag("--must-map", o.must_map, "fail if the directory's files can't be mapped shared, instead of leaving that out");
  app.add_option("--ops", o.ops, "how many operations")->capture_default_str();
  app.add_option("--seed", o.seed, "of the list")->capture_default_str();
  app.add_option("--replay", o.replay, "run the list in this file instead");
  app.add_option("--save", o.save, "where a failure's list goes")->capture_default_str();
  app.add_option("--shrink-seconds", o.shrink_seconds, "to shrink a failure in, at most")->capture_default_str();
  app.add_option("--plant", o.plant, "a bug to be caught: punch-edge, stale-tail, short-copy, collapse-size");
  CLI11_PARSE(app, argc, argv);
  try {
    return exercise(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "exerciser: %s\n", e.what());
    return 2;
  }
}
