// pmfs-bench-dax: the same work on a pmfs volume and on the file system that it lies on, ext4 or xfs with DAX, in one run.
//
// Where the kernel maps memory for both sides a steady state can't differ; what does is how a mapping comes about, what makes
// a store durable, and what a truncate costs. The kernel's side maps with MAP_SYNC where there is DAX.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sys/mman.h>
#include <sys/utsname.h>

#include <array>
#include <cstring>
#include <functional>
#include <string>
#include <system_error>
#include <vector>

#include "bench/child.h"
#include "bench/manager_process.h"
#include "bench/median.h"
#include "bench/place.h"
#include "bench/program.h"
#include "bench/random.h"
#include "bench/work_dir.h"
#include "pmfs/region/source.h"

namespace pmfs::bench {
namespace {

constexpr uint64_t kPage = 4096;

struct Sizes {
  uint64_t file, truncated;
  size_t stores, truncates;
};
constexpr Sizes kFull{32 << 20, 1 << 20, 4000, 40};
constexpr Sizes kQuick{2 << 20, 1 << 18, 100, 4};

struct Row {
  std::string name, unit;
  std::array<std::vector<double>, 2> values{};
  double of(Side s) const { return median(values[static_cast<size_t>(s)]); }
  double ratio() const { return of(Side::kTmpfs) == 0 ? 0 : of(Side::kPmfs) / of(Side::kTmpfs); }
};

class Bench {
 public:
  Bench(const Places& places, const Sizes& sizes) : places_(places), sizes_(sizes) {}
  void round();
  const std::vector<Row>& rows() const { return rows_; }

 private:
  using Work = std::function<double(TestFile&, Side)>;
  // In a client of its own, on a file of its own; the other side first every other round.
  void each_side(const std::string& name, const std::string& unit, const Work& work) {
    Row* row = nullptr;
    for (Row& r : rows_)
      if (r.name == name) row = &r;
    if (row == nullptr) row = &rows_.emplace_back(Row{name, unit});
    for (const size_t i : {size_t{0}, size_t{1}}) {
      const Side side = kSides[(i + round_) % 2];
      Shared<double> value;
      in_child([&] { *value = work(*open_file(places_, side, "file"), side); });
      in_child([&] { remove_file(places_, side, "file"); });
      row->values[static_cast<size_t>(side)].push_back(*value);
    }
  }
  double touch(TestFile& f, bool written) const;
  double steady(TestFile& f) const;
  double durable(TestFile& f, bool by_msync) const;
  double truncate(TestFile& f) const;

  const Places& places_;
  const Sizes& sizes_;
  std::vector<Row> rows_;
  size_t round_ = 0;
};

void fill(TestFile& f, uint64_t bytes) {
  const std::vector<std::byte> ones(1 << 18, std::byte{1});
  for (uint64_t at = 0; at < bytes; at += ones.size()) f.write(ones, at);
}

// ns a page, in order. `written`: the blocks are the file's already.
double Bench::touch(TestFile& f, bool written) const {
  if (written) fill(f, sizes_.file);
  else f.truncate(sizes_.file);
  volatile std::byte* p = f.map(sizes_.file);
  const auto start = Clock::now();
  for (uint64_t at = 0; at < sizes_.file; at += kPage) p[at] = std::byte{2};
  return seconds_since(start) * 1e9 / static_cast<double>(sizes_.file / kPage);
}

// ns a cache line, load and store.
double Bench::steady(TestFile& f) const {
  fill(f, sizes_.file);
  volatile auto* p = reinterpret_cast<uint64_t*>(f.map(sizes_.file));
  const uint64_t words = sizes_.file / sizeof *p;
  std::vector<double> passes;
  for (int pass = 0; pass < 4; ++pass) {
    const auto start = Clock::now();
    for (uint64_t i = 0; i < words; i += 8) p[i] = p[i] + 1;
    if (pass > 0) passes.push_back(seconds_since(start) * 1e9 / static_cast<double>(words / 8));
  }
  return median(passes);
}

// ns to store 4 KiB and have them durable, in touched memory.
double Bench::durable(TestFile& f, bool by_msync) const {
  fill(f, sizes_.file);
  std::byte* p = f.map(sizes_.file);
  for (uint64_t at = 0; at < sizes_.file; at += kPage) p[at] = std::byte{2};
  uint64_t seed = 2463534242u;
  const auto start = Clock::now();
  for (size_t i = 0; i < sizes_.stores; ++i) {
    std::byte* page = p + next_random(seed) % (sizes_.file / kPage) * kPage;
    std::memset(page, static_cast<int>(i), kPage);
    if (!by_msync) persist_lines(page, kPage);
    else if (::msync(page, kPage, MS_SYNC) != 0) throw std::system_error(errno, std::generic_category(), "msync");
  }
  return seconds_since(start) * 1e9 / static_cast<double>(sizes_.stores);
}

// ns to truncate a file to nothing whose pages are mapped and touched.
double Bench::truncate(TestFile& f) const {
  volatile std::byte* p = nullptr;
  std::vector<double> ns;
  for (size_t i = 0; i < sizes_.truncates; ++i) {
    fill(f, sizes_.truncated);
    if (p == nullptr) p = f.map(sizes_.truncated);
    for (uint64_t at = 0; at < sizes_.truncated; at += kPage) p[at] = std::byte{2};
    const auto start = Clock::now();
    f.truncate(0);
    ns.push_back(seconds_since(start) * 1e9);
  }
  return median(ns);
}

void Bench::round() {
  each_side("first touch, the blocks are there", "ns/page", [&](TestFile& f, Side) { return touch(f, true); });
  each_side("first touch of holes", "ns/page", [&](TestFile& f, Side) { return touch(f, false); });
  each_side("steady load+store", "ns/line", [&](TestFile& f, Side) { return steady(f); });
  each_side("4 KiB stored durably: persist(), msync", "ns", [&](TestFile& f, Side s) { return durable(f, s == Side::kTmpfs); });
  each_side("  persist() on both", "ns", [&](TestFile& f, Side) { return durable(f, false); });
  each_side(fmt::format("truncate of {} KiB, mapped", sizes_.truncated >> 10), "ns",
            [&](TestFile& f, Side) { return truncate(f); });
  fmt::print(stderr, "round {} done\n", ++round_);
}

std::string number(double v) { return v < 10 ? fmt::format("{:.2f}", v) : fmt::format("{:.0f}", v); }

void print(const Bench& b, size_t rounds, const std::string& what, const std::string& other, bool json) {
  utsname u{};
  uname(&u);
  if (json) {
    nlohmann::ordered_json j{{"kernel", u.release}, {"region", what}, {"peer", other}, {"rounds", rounds}};
    for (const Row& r : b.rows())
      j["rows"].push_back({{"name", r.name}, {"unit", r.unit}, {"pmfs", r.of(Side::kPmfs)}, {"peer", r.of(Side::kTmpfs)},
                           {"ratio", r.ratio()}, {"pmfs_rounds", r.values[0]}, {"peer_rounds", r.values[1]}});
    fmt::print("{}\n", j.dump(2));
    return;
  }
  fmt::print("Linux {}, {}; medians of {} rounds\n\n{:<42} {:>10} {:>10} {:>8} {:>7}\n", u.release, what, rounds, "", "pmfs",
             other, "unit", "ratio");
  for (const Row& r : b.rows())
    fmt::print("{:<42} {:>10} {:>10} {:>8} {:>7.2f}\n", r.name, number(r.of(Side::kPmfs)), number(r.of(Side::kTmpfs)), r.unit,
               r.ratio());
}

int run(int argc, char** argv) {
  size_t rounds = 3;
  std::string dir = "/dev/shm", device;
  bool json = false, quick = false;
  CLI::App app("The same work on a pmfs volume and on the file system that it lies on: DAX beside DAX.");
  app.add_option("--dir", dir, "a directory on ext4 or xfs with DAX (or on tmpfs)")->check(CLI::ExistingDirectory)->capture_default_str();
  app.add_option("--data", device, "the volume's data on this device, all of which is taken; the peer stays in DIR");
  app.add_option("--rounds", rounds, "how often; medians are shown")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_flag("--json", json, "JSON, with the figures of every round");
  app.add_flag("--quick", quick, "small sizes, to see that it runs");
  CLI11_PARSE(app, argc, argv);

  catch_interrupts();
  const Sizes& sizes = quick ? kQuick : kFull;
  const WorkDir work(dir);
  const Places places{work.path() / "volume", work.path() / "peer"};
  std::filesystem::create_directory(places.tmpfs);
  const RegionSource source = look_at_source(device.empty() ? std::filesystem::path(dir) : std::filesystem::path(device));
  const RegionSource peer = look_at_source(dir);
  const ManagerProcess manager(places.volume, device.empty() ? 128 << 20 : 0, "range", device);
  Bench bench(places, sizes);
  for (size_t i = 0; i < rounds; ++i) bench.round();
  print(bench, rounds,
        fmt::format("{} region{}", region_kind_name(source.kind), source.emulated() ? ", emulated DAX (memmap=)" : ""),
        peer.kind == RegionKind::kFsdax ? peer.file_system + "-dax" : peer.file_system, json);
  return 0;
}

}  // namespace
}  // namespace pmfs::bench

int main(int argc, char** argv) { return pmfs::bench::program("pmfs-bench-dax", pmfs::bench::run, argc, argv); }
