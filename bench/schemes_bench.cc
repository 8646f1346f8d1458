// pmfs-bench-schemes: write faults beside a puncher, on a manager with each exclusion scheme in turn, and on directories
// of the kernel's file systems as the kernel's answer. Every side starts afresh in every round, and the medians are
// shown.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "bench/beside.h"
#include "bench/child.h"
#include "bench/manager_process.h"
#include "bench/median.h"
#include "bench/place.h"
#include "bench/program.h"
#include "bench/work_dir.h"
#include "pmfs/exclusion/scheme.h"

namespace pmfs::bench {
namespace {

struct Setting {
  unsigned clients;
  Pace pace;
  Target target;
};

const char* name_of(Pace p) { return p == Pace::kNone ? "alone" : p == Pace::kPaced ? "paced" : "unpaced"; }
const char* name_of(Target t) {
  switch (t) {
    case Target::kOtherHalf: return "other half";
    case Target::kOtherFile: return "other file";
    case Target::kSameHalf: return "same half";
    case Target::kTail: return "truncate";
  }
  return "";
}

// Per number of clients the run alone comes first: the others are shares of it.
std::vector<Setting> settings() {
  std::vector<Setting> s;
  for (const unsigned clients : {1u, 4u, 16u}) {
    s.push_back({clients, Pace::kNone, Target::kOtherHalf});
    for (const Pace p : {Pace::kPaced, Pace::kFull}) {
      for (const Target t : {Target::kOtherFile, Target::kOtherHalf, Target::kSameHalf, Target::kTail}) {
        s.push_back({clients, p, t});
      }
    }
  }
  return s;
}

// A scheme of pmfs, or a directory.
struct Subject {
  std::string name;
  std::string exclusion;       // of a pmfs volume, or
  std::filesystem::path dir;  // the kernel's
};

struct Result {
  Setting setting;
  std::vector<BesideFigures> rounds;
  std::vector<double> kept;  // of the faults/s alone, round by round
};
using Results = std::vector<Result>;  // one per setting

double median_of(const Result& r, double BesideFigures::*figure) {
  std::vector<double> v;
  for (const BesideFigures& f : r.rounds) v.push_back(f.*figure);
  return median(v);
}

void run_subject(const Subject& subject, const std::filesystem::path& work, const BesideWork& sizes, Results& results) {
  const bool pmfs = subject.dir.empty();
  const Places places{work / "volume", subject.dir};
  std::unique_ptr<ManagerProcess> manager;
  if (pmfs) manager = std::make_unique<ManagerProcess>(places.volume, 8 * sizes.half, subject.exclusion);
  double alone = 0;
  for (Result& r : results) {
    BesideWork w = sizes;
    w.clients = r.setting.clients;
    w.pace = r.setting.pace;
    w.target = r.setting.target;
    if (manager) manager->settle();
    const BesideFigures f = faults_beside(places, pmfs ? Side::kPmfs : Side::kTmpfs, w);
    if (w.pace == Pace::kNone) alone = f.faults_per_second;
    r.rounds.push_back(f);
    r.kept.push_back(alone == 0 ? 0 : f.faults_per_second / alone);
  }
  manager.reset();
  if (pmfs) std::filesystem::remove_all(places.volume);
}

nlohmann::json to_json(const std::string& subject, const Result& r) {
  nlohmann::json j{{"subject", subject},
                   {"clients", r.setting.clients},
                   {"puncher", name_of(r.setting.pace)},
                   {"kept", median(r.kept)},
                   {"kept_rounds", r.kept},
                   {"faults_per_second", median_of(r, &BesideFigures::faults_per_second)},
                   {"p50_ns", median_of(r, &BesideFigures::p50_ns)},
                   {"p99_ns", median_of(r, &BesideFigures::p99_ns)},
                   {"p999_ns", median_of(r, &BesideFigures::p999_ns)}};
  if (r.setting.pace != Pace::kNone) {
    j["target"] = name_of(r.setting.target);
    j["punches_per_second"] = median_of(r, &BesideFigures::punches_per_second);
  }
  return j;
}

void print_table(const std::vector<Subject>& subjects, const std::vector<Results>& results) {
  fmt::print("{:<11} {:>7} {:<8} {:<11} {:>10} {:>6} {:>9} {:>9} {:>9} {:>9}\n", "", "clients", "puncher", "target",
             "faults/s", "kept", "p50 us", "p99 us", "p99.9 us", "punches/s");
  for (size_t i = 0; i < subjects.size(); ++i) {
    for (const Result& r : results[i]) {
      const bool alone = r.setting.pace == Pace::kNone;
      fmt::print("{:<11} {:>7} {:<8} {:<11} {:>10.0f} {:>6.2f} {:>9.1f} {:>9.1f} {:>9.1f} {:>9.0f}\n", subjects[i].name,
                 r.setting.clients, name_of(r.setting.pace), alone ? "" : name_of(r.setting.target),
                 median_of(r, &BesideFigures::faults_per_second), median(r.kept), median_of(r, &BesideFigures::p50_ns) / 1e3,
                 median_of(r, &BesideFigures::p99_ns) / 1e3, median_of(r, &BesideFigures::p999_ns) / 1e3,
                 median_of(r, &BesideFigures::punches_per_second));
    }
  }
}

void print_json(const std::vector<Subject>& subjects, const std::vector<Results>& results, const BesideWork& sizes,
                size_t rounds) {
  utsname u{};
  uname(&u);
  nlohmann::json j{{"kernel", u.release},       {"processors", sysconf(_SC_NPROCESSORS_ONLN)},
                   {"rounds", rounds},          {"seconds", sizes.seconds},
                   {"half_bytes", sizes.half},  {"rows", nlohmann::json::array()}};
  for (size_t i = 0; i < subjects.size(); ++i) {
    for (const Result& r : results[i]) j["rows"].push_back(to_json(subjects[i].name, r));
  }
  fmt::print("{}\n", j.dump(1));
}

Subject kernel_subject(const std::string& text) {
  const auto eq = text.find('=');
  if (eq == 0 || eq == text.npos) throw CLI::ValidationError("--dir", text + ": NAME=DIRECTORY is wanted");
  const std::filesystem::path dir = text.substr(eq + 1);
  if (!std::filesystem::is_directory(dir)) throw CLI::ValidationError("--dir", dir.string() + " is not a directory");
  return {text.substr(0, eq), "", dir};
}

int run(int argc, char** argv) {
  size_t rounds = 3;
  BesideWork sizes;
  std::vector<std::string> schemes, dirs, only;
  std::string shm = "/dev/shm";
  bool json = false, quick = false;
  CLI::App app("Write faults beside a puncher: each exclusion scheme of pmfs, and the kernel's file systems.");
  app.add_option("--exclusion", schemes, "only these schemes; default: every sound one")
      ->check([](const std::string& s) { return exclusion::find_scheme(s) ? std::string() : "no scheme is called " + s; });
  app.add_option("--dir", dirs, "NAME=DIRECTORY: a directory of another file system, too");
  app.add_option("--rounds", rounds, "medians are shown")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--seconds", sizes.seconds, "of one measurement")->check(CLI::Range(0.01, 60.0))->capture_default_str();
  app.add_option("--volume-dir", shm, "a directory on a tmpfs, for the volumes")->check(CLI::ExistingDirectory);
  app.add_flag("--json", json, "JSON, with the figures of every round");
  app.add_flag("--quick", quick, "one short round, to see that it runs");
  CLI11_PARSE(app, argc, argv);
  if (quick) {
    rounds = 1;
    sizes.half = 4 << 20;
    sizes.seconds = 0.02;
  }
  std::vector<Subject> subjects;
  for (const exclusion::SchemeInfo& s : exclusion::schemes()) {
    const bool named = std::find(schemes.begin(), schemes.end(), s.name) != schemes.end();
    if (named && !s.sound) throw CLI::ValidationError("--exclusion", std::string(s.name) + " is broken on purpose");
    if (named || (schemes.empty() && s.sound)) subjects.push_back({std::string(s.name), std::string(s.name), {}});
  }
  for (const std::string& d : dirs) subjects.push_back(kernel_subject(d));

  catch_interrupts();
  const WorkDir work(shm);
  Results blank;
  for (const Setting& s : settings()) blank.push_back({s, {}, {}});
  std::vector<Results> results(subjects.size(), blank);
  for (size_t round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < subjects.size(); ++i) {
      const auto start = Clock::now();
      run_subject(subjects[i], work.path(), sizes, results[i]);
      fmt::print(stderr, "round {} of {}: {} in {:.1f} s\n", round + 1, rounds, subjects[i].name, seconds_since(start));
    }
  }
  if (json) {
    print_json(subjects, results, sizes, rounds);
  } else {
    print_table(subjects, results);
  }
  return 0;
}

}  // namespace
}  // namespace pmfs::bench

int main(int argc, char** argv) { return pmfs::bench::program("pmfs-bench-schemes", pmfs::bench::run, argc, argv); }
