// pmfs-bench: the same work on a pmfs volume and on the kernel's tmpfs, in one run, as ratios.
//
// Clients are processes of their own, so is the manager. Both sides take turns, round by round, and the medians are
// compared. What differs by design and is not hidden: the volume is reserved and its free blocks are zeroed ahead
// (as pmem is there before it is used), tmpfs allocates and zeroes a page when it is first touched.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "bench/beside.h"
#include "bench/child.h"
#include "bench/manager_process.h"
#include "bench/median.h"
#include "bench/place.h"
#include "bench/program.h"
#include "bench/random.h"
#include "bench/work_dir.h"

namespace pmfs::bench {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPunch = 64 << 10;  // bytes

struct Sizes {
  uint64_t file, io_file;
  size_t io_ops, zaps;
  double beside_seconds;
};
constexpr Sizes kFull{256 << 20, 64 << 20, 20000, 200, 1.0};
constexpr Sizes kQuick{16 << 20, 4 << 20, 1000, 10, 0.1};

enum class Goal { kNone, kRatioAtMost, kValueAtLeast };  // of pmfs/tmpfs; of the figure of pmfs
struct Row {
  std::string name, unit;
  Goal goal = Goal::kNone;
  double limit = 0;
  std::array<std::vector<double>, 2> values{};

  double median(Side s) const { return bench::median(values[static_cast<size_t>(s)]); }
  double ratio() const { return median(Side::kTmpfs) == 0 ? 0 : median(Side::kPmfs) / median(Side::kTmpfs); }
  std::optional<bool> met() const {
    if (goal == Goal::kNone) return std::nullopt;
    return goal == Goal::kRatioAtMost ? ratio() <= limit : median(Side::kPmfs) >= limit;
  }
};

class Bench {
 public:
  Bench(const Places& places, const ManagerProcess& manager, const Sizes& sizes)
      : places_(places), manager_(manager), sizes_(sizes) {}

  using Case = void (Bench::*)();
  struct Named {
    const char* name;
    Case run;
    const char* what;
  };
  static const std::vector<Named>& cases();

  void round(const std::string& only);
  const std::vector<Row>& rows() const { return rows_; }
  unsigned unsettled() const { return unsettled_; }

 private:
  struct Touch {
    bool random, write, preallocated;
  };
  void first_touch();
  void steady();
  void zap();
  void io();
  void beside();
  void beside_first();

  double touch_fresh_file(Side side, const Touch& t);
  double zap_once(Side side, unsigned mappers);
  BesideFigures faults(Side side, bool fresh, bool with_puncher);
  void beside_rows(bool fresh, const char* what);

  void remove(Side side, const std::string& name) {
    in_child([&] { remove_file(places_, side, name); });
  }
  void settle() {
    if (!manager_.settle()) ++unsettled_;
  }
  // Both sides, the other one first every other round.
  template <class F>
  void each_side(F&& f) {
    for (const size_t i : {size_t{0}, size_t{1}}) f(kSides[(i + round_) % 2]);
  }
  Row& row(const std::string& name, const std::string& unit, Goal goal = Goal::kNone, double limit = 0) {
    for (Row& r : rows_) {
      if (r.name == name) return r;
    }
    return rows_.emplace_back(Row{name, unit, goal, limit});
  }
  static void add(Row& r, Side s, double v) { r.values[static_cast<size_t>(s)].push_back(v); }

  const Places& places_;
  const ManagerProcess& manager_;
  const Sizes& sizes_;
  std::vector<Row> rows_;
  size_t round_ = 0;
  unsigned unsettled_ = 0;
};

// --- first touch

double Bench::touch_fresh_file(Side side, const Touch& t) {
  settle();
  Shared<double> ns;
  in_child([&] {
    const auto file = open_file(places_, side, "touch");
    file->truncate(sizes_.file);
    if (t.preallocated) file->allocate(sizes_.file);
    volatile std::byte* p = file->map(sizes_.file);
    const auto order = page_order(sizes_.file / kPage, t.random ? 88172645463325252u : 0);
    const auto start = Clock::now();
    if (t.write) {
      for (const uint32_t page : order) p[page * kPage] = std::byte{1};
    } else {
      for (const uint32_t page : order) static_cast<void>(p[page * kPage]);
    }
    *ns = seconds_since(start) * 1e9 / static_cast<double>(order.size());
  });
  remove(side, "touch");
  return *ns;
}

void Bench::first_touch() {
  static constexpr struct {
    const char* name;
    Touch touch;
    Goal goal;
    double limit;
  } kKinds[] = {
      {"first touch, sequential write", {false, true, false}, Goal::kRatioAtMost, 0.35},
      {"first touch, random write", {true, true, false}, Goal::kNone, 0},
      {"first touch, sequential read", {false, false, false}, Goal::kNone, 0},
      {"first touch, random read", {true, false, false}, Goal::kNone, 0},
      {"  sequential write, both preallocated", {false, true, true}, Goal::kNone, 0},
  };
  for (const auto& k : kKinds) {
    Row& r = row(k.name, "ns/page", k.goal, k.limit);
    each_side([&](Side s) { add(r, s, touch_fresh_file(s, k.touch)); });
  }
}

// --- memory that has been touched

double sequential_pass(volatile uint64_t* p, uint64_t bytes) {
  const uint64_t step = 64 / sizeof *p, end = bytes / sizeof *p;
  const auto start = Clock::now();
  for (uint64_t i = 0; i < end; i += step) p[i] = p[i] + 1;
  return seconds_since(start) * 1e9 / static_cast<double>(end / step);
}

double random_pass(volatile uint64_t* p, uint64_t bytes) {
  const uint64_t words = bytes / sizeof *p, ops = bytes / 128;
  uint64_t seed = 2463534242u;
  const auto start = Clock::now();
  for (uint64_t i = 0; i < ops; ++i) {
    const uint64_t at = next_random(seed) % words;
    p[at] = p[at] + 1;
  }
  return seconds_since(start) * 1e9 / static_cast<double>(ops);
}

// Which memory of the host a file got decides more of a random access than who mapped it: two files of one tmpfs differ by up to
// a third here, for as long as they live. So pmfs' mapping is also compared with an ordinary one of the very same blocks.
void Bench::steady() {
  constexpr size_t kPlain = 2, kKinds = 3;  // beside the two sides
  struct Out {
    double sequential[kKinds], random[kKinds];
  };
  Shared<Out> out;
  settle();
  in_child([&] {
    std::unique_ptr<TestFile> files[2];
    volatile uint64_t* p[kKinds];
    for (const Side s : kSides) {
      const auto i = static_cast<size_t>(s);
      files[i] = open_file(places_, s, "steady");
      files[i]->truncate(sizes_.file);
      p[i] = reinterpret_cast<uint64_t*>(files[i]->map(sizes_.file));
      sequential_pass(p[i], sizes_.file);
    }
    p[kPlain] = reinterpret_cast<uint64_t*>(files[static_cast<size_t>(Side::kPmfs)]->map_plainly(sizes_.file));
    for (volatile uint64_t* q : p) sequential_pass(q, sizes_.file);
    std::vector<double> sequential[kKinds], random[kKinds];
    for (size_t pass = 0; pass < 6; ++pass) {
      for (size_t k = 0; k < kKinds; ++k) {
        const size_t i = (k + pass + round_) % kKinds;
        sequential[i].push_back(sequential_pass(p[i], sizes_.file));
        random[i].push_back(random_pass(p[i], sizes_.file));
      }
    }
    for (size_t i = 0; i < kKinds; ++i) {
      out->sequential[i] = median(sequential[i]);
      out->random[i] = median(random[i]);
    }
  });
  for (const Side s : kSides) {
    const auto i = static_cast<size_t>(s);
    add(row("steady, sequential load+store", "ns/line", Goal::kRatioAtMost, 1.05), s, out->sequential[i]);
    add(row("steady, random load+store", "ns/op"), s, out->random[i]);
    const size_t k = s == Side::kPmfs ? i : kPlain;
    add(row("  sequential, a plain mapping of the same blocks", "ns/line", Goal::kRatioAtMost, 1.05), s, out->sequential[k]);
    add(row("  random, a plain mapping of the same blocks", "ns/op", Goal::kRatioAtMost, 1.05), s, out->random[k]);
    remove(s, "steady");
  }
}

// --- zap

double Bench::zap_once(Side side, unsigned mappers) {
  struct State {
    Barrier ready, touched, punched;
    double ns;
  };
  settle();
  Shared<State> state;
  for (Barrier* b : {&state->ready, &state->touched, &state->punched}) b->init(mappers + 1);
  in_child([&] { open_file(places_, side, "zap")->truncate(kPunch); });
  {
    std::vector<Child> children;
    for (unsigned m = 0; m < mappers; ++m) {
      children.emplace_back([&, m] {
        const auto file = open_file(places_, side, "zap");
        volatile std::byte* p = file->map(kPunch);
        state->ready.wait();
        for (size_t i = 0; i < sizes_.zaps; ++i) {
          for (uint64_t at = 0; at < kPunch; at += kPage) p[at + m] = std::byte{1};
          state->touched.wait();
          state->punched.wait();
        }
      });
    }
    children.emplace_back([&] {
      const auto file = open_file(places_, side, "zap");
      std::vector<double> ns;
      state->ready.wait();
      for (size_t i = 0; i < sizes_.zaps; ++i) {
        state->touched.wait();
        usleep(500);  // until the mappers sleep: the processor is to do the zap only
        const auto start = Clock::now();
        file->punch(0, kPunch);
        ns.push_back(seconds_since(start) * 1e9);
        state->punched.wait();
      }
      state->ns = median(ns);
    });
    for (Child& c : children) c.join();
  }
  remove(side, "zap");
  return state->ns;
}

void Bench::zap() {
  for (const unsigned mappers : {1u, 4u, 16u}) {
    const Goal goal = mappers == 16 ? Goal::kRatioAtMost : Goal::kNone;
    Row& r = row(fmt::format("zap 64 KiB mapped by {}", mappers), "ns", goal, 2);
    each_side([&](Side s) { add(r, s, zap_once(s, mappers)); });
  }
}

// --- read and write by call

void Bench::io() {
  settle();
  each_side([&](Side s) {
    Shared<std::array<double, 2>> ns;
    in_child([&] {
      const auto file = open_file(places_, s, "io");
      std::vector<std::byte> buffer(1 << 20, std::byte{1});
      for (uint64_t at = 0; at < sizes_.io_file; at += buffer.size()) file->write(buffer, at);
      const std::span<std::byte> page(buffer.data(), kPage);
      for (const size_t reading : {size_t{0}, size_t{1}}) {
        uint64_t seed = 2463534242u;
        const auto start = Clock::now();
        for (size_t i = 0; i < sizes_.io_ops; ++i) {
          const uint64_t at = next_random(seed) % (sizes_.io_file / kPage) * kPage;
          if (reading == 1) {
            file->read(page, at);
          } else {
            file->write(page, at);
          }
        }
        (*ns)[reading] = seconds_since(start) * 1e9 / static_cast<double>(sizes_.io_ops);
      }
    });
    remove(s, "io");
    add(row("write 4 KiB by call", "ns"), s, (*ns)[0]);
    add(row("read 4 KiB by call", "ns"), s, (*ns)[1]);
  });
}

// --- faults beside a puncher of the other half

BesideFigures Bench::faults(Side side, bool fresh, bool with_puncher) {
  settle();
  BesideWork w;
  w.half = fresh ? sizes_.file / 2 : sizes_.io_file;
  w.seconds = sizes_.beside_seconds;
  w.fresh = fresh;
  w.pace = with_puncher ? Pace::kPaced : Pace::kNone;
  return faults_beside(places_, side, w);
}

void Bench::beside_rows(bool fresh, const char* what) {
  each_side([&](Side s) {
    const BesideFigures a = faults(s, fresh, false), b = faults(s, fresh, true);
    add(row(fmt::format("{}/s alone", what), "/s"), s, a.faults_per_second);
    add(row(fmt::format("{}/s beside the puncher", what), "/s"), s, b.faults_per_second);
    add(row(fmt::format("  kept of {}/s", what), "share", fresh ? Goal::kNone : Goal::kValueAtLeast, 0.9), s,
        b.faults_per_second / a.faults_per_second);
    add(row(fmt::format("  p99 of {} alone", what), "ns"), s, a.p99_ns);
    add(row(fmt::format("  p99 of {} beside the puncher", what), "ns"), s, b.p99_ns);
    add(row(fmt::format("  pace of its puncher ({})", what), "/s"), s, b.punches_per_second);
  });
}
void Bench::beside() { beside_rows(false, "write faults"); }
void Bench::beside_first() { beside_rows(true, "random first writes"); }

const std::vector<Bench::Named>& Bench::cases() {
  static const std::vector<Named> kCases = {
      {"first-touch", &Bench::first_touch, "each page of a fresh file once"},
      {"steady", &Bench::steady, "memory that has been touched"},
      {"zap", &Bench::zap, "punch 64 KiB that 1, 4, 16 processes have PTEs of"},
      {"io", &Bench::io, "read and write of 4 KiB by call"},
      {"beside", &Bench::beside, "write faults in one half, a puncher of the other"},
      {"beside-first", &Bench::beside_first, "the same with first touches of a fresh file"},
  };
  return kCases;
}

void Bench::round(const std::string& only) {
  for (const Named& c : cases()) {
    if (!only.empty() && only != c.name) continue;
    const auto start = Clock::now();
    (this->*c.run)();
    fmt::print(stderr, "round {}: {} in {:.1f} s\n", round_ + 1, c.name, seconds_since(start));
  }
  ++round_;
}

// --- output

std::string number(double v) {
  if (v < 10) return fmt::format("{:.2f}", v);
  return fmt::format("{:.0f}", v);
}

const char* verdict(const Row& r) { return !r.met() ? "" : *r.met() ? "met" : "MISSED"; }

std::string goal_text(const Row& r) {
  if (r.goal == Goal::kNone) return "";
  return r.goal == Goal::kRatioAtMost ? fmt::format("ratio <= {}", r.limit) : fmt::format("pmfs >= {}", r.limit);
}

std::string shmem_huge() {
  std::ifstream in("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  std::string text;
  std::getline(in, text);
  const auto from = text.find('['), to = text.find(']');
  return from == text.npos || to == text.npos ? "unknown" : text.substr(from + 1, to - from - 1);
}

void print_table(const Bench& b, size_t rounds, const Sizes& sizes) {
  utsname u{};
  uname(&u);
  fmt::print("Linux {}, {} processors, shmem huge pages: {}. Medians of {} rounds.\n", u.release,
             sysconf(_SC_NPROCESSORS_ONLN), shmem_huge(), rounds);
  fmt::print("First touch of {} MiB. The volume is reserved and its free blocks are zeroed ahead; tmpfs allocates and\n"
             "zeroes at the touch (preallocated: has its pages, zeroes at the touch).\n", sizes.file >> 20);
  if (b.unsettled() != 0) fmt::print("The volume was not at rest before {} measurements.\n", b.unsettled());
  fmt::print("\n{:<50} {:>10} {:>10} {:>8} {:>7}  {:<13} {}\n", "", "pmfs", "tmpfs", "unit", "ratio", "target", "");
  for (const Row& r : b.rows()) {
    fmt::print("{:<50} {:>10} {:>10} {:>8} {:>7.2f}  {:<13} {}\n", r.name, number(r.median(Side::kPmfs)),
               number(r.median(Side::kTmpfs)), r.unit, r.ratio(), goal_text(r), verdict(r));
  }
}

void print_json(const Bench& b, size_t rounds, const Sizes& sizes) {
  utsname u{};
  uname(&u);
  nlohmann::json j{{"kernel", u.release},
                   {"processors", sysconf(_SC_NPROCESSORS_ONLN)},
                   {"shmem_huge", shmem_huge()},
                   {"rounds", rounds},
                   {"file_bytes", sizes.file},
                   {"volume_reserved", true},
                   {"measurements_not_at_rest", b.unsettled()}};
  for (const Row& r : b.rows()) {
    nlohmann::json row{{"name", r.name},
                       {"unit", r.unit},
                       {"pmfs", r.median(Side::kPmfs)},
                       {"tmpfs", r.median(Side::kTmpfs)},
                       {"ratio", r.ratio()},
                       {"pmfs_rounds", r.values[0]},
                       {"tmpfs_rounds", r.values[1]}};
    if (r.goal != Goal::kNone) row.update({{"target", goal_text(r)}, {"met", *r.met()}});
    j["rows"].push_back(row);
  }
  fmt::print("{}\n", j.dump(2));
}

int run(int argc, char** argv) {
  size_t rounds = 5;
  std::string only, dir = "/dev/shm";
  bool json = false, quick = false;
  std::string names;
  for (const auto& c : Bench::cases()) names += fmt::format("\n  {:<14} {}", c.name, c.what);
  CLI::App app("The same work on pmfs and on tmpfs, as ratios. What is measured:" + names);
  app.add_option("--rounds", rounds, "how often; medians are shown")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--only", only, "one of the names above")->check([](const std::string& name) {
    for (const auto& c : Bench::cases()) {
      if (name == c.name) return std::string();
    }
    return "nothing is called " + name;
  });
  app.add_option("--dir", dir, "a directory on a tmpfs")->check(CLI::ExistingDirectory)->capture_default_str();
  app.add_flag("--json", json, "JSON, with the figures of every round");
  app.add_flag("--quick", quick, "small sizes, to see that it runs");
  CLI11_PARSE(app, argc, argv);

  catch_interrupts();
  const Sizes& sizes = quick ? kQuick : kFull;
  const WorkDir work(dir);
  const Places places{work.path() / "volume", work.path() / "tmpfs"};
  std::filesystem::create_directory(places.tmpfs);
  const ManagerProcess manager(places.volume, std::max<uint64_t>(4 * sizes.file, 64 << 20));
  Bench bench(places, manager, sizes);
  for (size_t i = 0; i < rounds; ++i) bench.round(only);
  if (json) {
    print_json(bench, rounds, sizes);
  } else {
    print_table(bench, rounds, sizes);
  }
  return 0;
}

}  // namespace
}  // namespace pmfs::bench

int main(int argc, char** argv) { return pmfs::bench::program("pmfs-bench", pmfs::bench::run, argc, argv); }
