// pmfs-damage: damages a volume in many ways and sees what mount, fsck and repair make of it. Each may refuse, find or
// mend; none may crash, hang, or let a loss pass without a word. Exit code: 0 nothing bad, 1 something, 2 usage, 3
// could not run.

#include <cstdio>

#include <malloc.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "pmfs/base/error.h"
#include "pmfs/base/guarded.h"
#include "pmfs/fsck/fsck.h"
#include "tools/crash/damage.h"
#include "tools/crash/explore.h"
#include "tools/crash/interpose.h"
#include "tools/crash/workers.h"

namespace pmfs::crash {
namespace {

constexpr unsigned kSeconds = 30;  // for a mount, in a child of its own

struct Options {
  uint64_t cases = 400, first = 0, seed = 1;
  unsigned processes = 2;
  bool long_run = false, json = false, quiet = false;
};

enum Count : size_t { kCases, kRefused, kMounted, kClean, kFound, kBeyond, kRepaired, kHarmless };

VolumeFiles files_in(const std::filesystem::path& dir) {
  return files_of((dir / "meta").c_str(), (dir / "data").c_str());
}

// Mounts privately, reads everything, and checks. "" is not in order; else how the state compares with `wanted`.
std::string look(const std::filesystem::path& dir, const VolumeState& wanted) {
  interpose(Mode::kPrivate, files_in(dir), nullptr);
  MountedVolume v(dir, VolumeOptions{});
  VolumeState s = read_state(v);
  auto wrong = judge(s, wanted, wanted, {});
  return wrong ? *wrong : "same";
}

class Case {
 public:
  Case(Workers& w, const std::filesystem::path& dir, const std::filesystem::path& start,
       const std::filesystem::path& stale, uint64_t seed)
      : w_(w), dir_(dir), seed_(seed), image_(dir / "damaged", start), stale_(dir / "stale", stale) {
    interpose(Mode::kPrivate, files_in(image_.dir()), nullptr);
    MountedVolume v(image_.dir(), VolumeOptions{});
    wanted_ = read_state(v);
  }

  void run(uint64_t n) {
    const size_t mark = image_.mark();
    Damage d = damage(image_, stale_, n, seed_);
    name_ = fmt::format("case {}, {}", n, d.text);
    w_.beat(name_);
    // Copies, since a cut file has another size and a repair another pool.
    std::filesystem::path copy = dir_ / "copy";
    std::filesystem::remove_all(copy);
    std::filesystem::create_directories(copy);
    for (const char* f : {"meta", "data"}) std::filesystem::copy_file(image_.dir() / f, copy / f);
    image_.back_to(mark);
    if (d.meta_bytes != 0) std::filesystem::resize_file(copy / "meta", d.meta_bytes);
    if (d.data_bytes != 0) std::filesystem::resize_file(copy / "data", d.data_bytes);
    interpose(Mode::kPlain, {}, nullptr);
    const Guarded mounted = guarded(kSeconds, [&] { return look(copy, wanted_); });
    w_.count(kCases, 1);
    w_.count(mounted.problem.empty() ? kMounted : kRefused, 1);
    if (mounted.died) bad("the manager " + mounted.problem);
    const Guarded checked = guarded(3 * kSeconds, [&] { return check(copy, false); });
    judge_check(mounted, checked);
    if (checked.problem.empty() && checked.output != "clean") {
      const Guarded repaired = guarded(5 * kSeconds, [&] { return check(copy, true); });
      judge_repair(copy, repaired);
    }
  }

 private:
  void bad(const std::string& what) { w_.found(name_ + ": " + what); }

  static std::string check(const std::filesystem::path& dir, bool repair) {
    fsck::Options o;
    o.repair = repair;
    o.child_seconds = kSeconds;
    fsck::Result r = fsck::run(dir, o);
    if (r.found == 0) return "clean";
    return fmt::format("{} {} lost: {}", r.repaired ? "repaired" : "found", r.lost, r.findings[0].text);
  }

  void judge_check(const Guarded& mounted, const Guarded& checked) {
    if (checked.died) return bad("fsck " + checked.problem);
    if (!checked.problem.empty()) return w_.count(kBeyond, 1);
    if (checked.output != "clean") return w_.count(kFound, 1);
    w_.count(kClean, 1);
    if (mounted.problem.empty() && mounted.output == "same") return w_.count(kHarmless, 1);
    // A mount that refuses has not lost anything silently, but fsck should have known.
    bad(mounted.problem.empty() ? "fsck finds nothing, but " + mounted.output
                                : "fsck finds nothing, but the manager can't mount it: " + mounted.problem);
  }

  void judge_repair(const std::filesystem::path& copy, const Guarded& repaired) {
    if (repaired.died) return bad("repair " + repaired.problem);
    if (!repaired.problem.empty()) return w_.count(kBeyond, 1);
    w_.count(kRepaired, 1);
    const Guarded again = guarded(3 * kSeconds, [&] { return check(copy, false); });
    if (again.output != "clean") return bad("after the repair fsck finds: " + again.output + again.problem);
    const Guarded mounted = guarded(kSeconds, [&] { return look(copy, wanted_); });
    if (!mounted.problem.empty()) bad("after the repair the manager " + mounted.problem);
  }

  Workers& w_;
  const std::filesystem::path dir_;
  const uint64_t seed_;
  Image image_, stale_;
  VolumeState wanted_;
  std::string name_;
};

int parse(int argc, char** argv, Options* o) {
  CLI::App app(
      "Damages a volume by a seed: flipped bits, torn lines, swapped and overwritten blocks, stale versions, files "
      "cut\n"
      "short. The manager, fsck and fsck --repair must each refuse, find or mend it: never crash, hang, or stay "
      "silent\n"
      "about a loss.");
  app.footer(
      "Examples:\n  pmfs-damage --long              10^4 cases\n  pmfs-damage --first 123 --cases 1   that case "
      "again\n");
  app.add_option("--cases", o->cases, "how many")->check(CLI::Range(1ul, 1'000'000'000ul))->capture_default_str();
  app.add_option("--first", o->first, "number of the first")->capture_default_str();
  app.add_option("--seed", o->seed, "of all cases")->capture_default_str();
  app.add_option("--jobs", o->processes, "processes")->check(CLI::Range(1, 64))->capture_default_str();
  app.add_flag("--long", o->long_run, "10000 cases");
  app.add_flag("--json", o->json, "the result as one JSON document");
  app.add_flag("--quiet", o->quiet, "no progress line");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  if (o->long_run) o->cases = std::max<uint64_t>(o->cases, 10'000);
  return -1;
}

int run(const Options& o) {
  std::string name = "/dev/shm/pmfs-damage-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) fail(errno, "{}: can't be made", name);
  const std::filesystem::path work = name;
  struct Remove {
    const std::filesystem::path& p;
    ~Remove() {
      std::error_code ignored;
      std::filesystem::remove_all(p, ignored);
    }
  } remove{work};
  Explorer::make_start(work / "stale");
  Explorer::make_later(work / "stale", work / "start", 40);
  Workers w;
  const bool terminal = ::isatty(STDERR_FILENO) != 0 && !o.quiet;
  auto make = [&](unsigned child) -> Workers::Job {
    auto c = std::make_shared<Case>(w, work / std::to_string(child), work / "start", work / "stale", o.seed);
    return [c](uint64_t n) { c->run(n); };
  };
  auto findings = w.run(
      {o.processes, 900}, o.first, [&](uint64_t n) { return n >= o.first + o.cases; }, make,
      [&] {
        if (terminal) fmt::print(stderr, "\r{:>7} of {} cases ", w.counted(kCases), o.cases);
      });
  if (terminal) fmt::print(stderr, "\r{:40}\r", "");
  if (o.json) {
    nlohmann::ordered_json j{{"seed", o.seed},
                             {"cases", w.counted(kCases)},
                             {"mount_refused", w.counted(kRefused)},
                             {"mounted", w.counted(kMounted)},
                             {"fsck_found", w.counted(kFound)},
                             {"fsck_clean", w.counted(kClean)},
                             {"harmless", w.counted(kHarmless)},
                             {"repaired", w.counted(kRepaired)},
                             {"beyond_repair", w.counted(kBeyond)},
                             {"bad", findings.size()},
                             {"findings", findings}};
    fmt::print("{}\n", j.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  } else {
    for (const std::string& f : findings) fmt::print("BAD {}\n", f);
    fmt::print(
        "{} cases: mount refused {}, took {}; fsck found damage in {}, none in {} ({} of them harmless); {} repaired, "
        "{} beyond "
        "repair\n{} bad\n",
        w.counted(kCases), w.counted(kRefused), w.counted(kMounted), w.counted(kFound), w.counted(kClean),
        w.counted(kHarmless), w.counted(kRepaired), w.counted(kBeyond), findings.size());
  }
  return findings.empty() ? 0 : 1;
}

}  // namespace
}  // namespace pmfs::crash

int main(int argc, char** argv) {
  using namespace pmfs::crash;
  mallopt(M_TOP_PAD, 64 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
  Options o;
  if (int code = parse(argc, argv, &o); code >= 0) return code;
  try {
    return run(o);
  } catch (const std::exception& e) {
    fmt::print(stderr, "pmfs-damage: {}\n", e.what());
    return 3;
  }
}
