// What metadata costs: operations per second on the store alone, and mounting after a crash with few files and with many,
// on a small region and on a large one. Figures are for an optimised build with PMFS_DEBUG off.
//
//   meta_bench [--rounds N] [--mount] [--files N]... [--dir /dev/shm]
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <random>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "bench/median.h"
#include "pmfs/base/error.h"
#include "pmfs/fs/inode_ref.h"
#include "pmfs/fs/volume.h"

using namespace pmfs;

namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

struct TempDir {
  std::filesystem::path path;
  explicit TempDir(const std::string& parent) {
    std::string name = parent + "/pmfs-meta-bench-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) fail(errno, "{}: can't be made", name);
    path = name;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

// --- operations, each one transaction or two

constexpr unsigned kOps = 20'000;

double create_unlink(meta::Store& s) {
  auto t = Clock::now();
  for (unsigned k = 0; k < kOps; ++k) {
    std::string name = "f" + std::to_string(k % 1000);
    Ino i = s.create(kRootIno, name, 0600, 0, 0);
    s.unlink(kRootIno, name);
    s.free_inode(i);
  }
  return kOps / since(t);
}

// In a file of many extents, as a punch and the write that fills the hole again do it.
double punch_refill(meta::Store& s, Ino i) {
  std::mt19937_64 rng(1);
  auto t = Clock::now();
  for (unsigned k = 0; k < kOps; ++k) {
    Pgoff p(rng() % 4000 * 2);
    auto gone = s.remove_extents(i, {p, p + 1}, std::nullopt);
    s.finish_free(gone.id);
    s.commit_extent(i, {p, s.reserve(gone.extents.at(0).first, 1, 1).first, 1, false}, std::nullopt);
  }
  return kOps / since(t);
}

double rename_back(meta::Store& s) {
  auto t = Clock::now();
  for (unsigned k = 0; k < kOps; ++k) {
    bool there = k % 2 == 0;
    s.rename(kRootIno, there ? "here" : "there", kRootIno, there ? "there" : "here");
  }
  return kOps / since(t);
}

double set_times(meta::Store& s, Ino i) {
  auto t = Clock::now();
  for (unsigned k = 0; k < kOps; ++k) s.set_times(i, k, k);
  return kOps / since(t);
}

double lookup(meta::Store& s) {
  auto t = Clock::now();
  for (unsigned k = 0; k < 10 * kOps; ++k) s.getattr(s.lookup(kRootIno, "n" + std::to_string(k % 3000)));
  return 10 * kOps / since(t);
}

void operations(const std::string& parent, unsigned rounds) {
  TempDir dir(parent);
  meta::Store::format(dir.path / "meta", {1 << 20, 1, false}, 256 << 20);
  auto s = meta::Store::open(dir.path / "meta");
  for (unsigned k = 0; k < 3000; ++k) s->create(kRootIno, "n" + std::to_string(k), 0600, 0, 0);
  s->create(kRootIno, "here", 0600, 0, 0);
  Ino file = s->create(kRootIno, "file", 0600, 0, 0);
  for (uint64_t p = 0; p < 4000; ++p)
    s->commit_extent(file, {Pgoff(2 * p), s->reserve(Pfn(2 * p), 1, 1).first, 1, false}, std::nullopt);
  struct Row {
    const char* name;
    std::function<double()> run;
    std::vector<double> per_second;
  } rows[] = {{"create + unlink + free", [&] { return create_unlink(*s); }, {}},
              {"punch + free + refill", [&] { return punch_refill(*s, file); }, {}},
              {"rename", [&] { return rename_back(*s); }, {}},
              {"set times", [&] { return set_times(*s, file); }, {}},
              {"lookup + getattr", [&] { return lookup(*s); }, {}}};
  for (unsigned r = 0; r < rounds; ++r)
    for (Row& row : rows) row.per_second.push_back(row.run());
  for (Row& row : rows) {
    auto [least, most] = std::minmax_element(row.per_second.begin(), row.per_second.end());
    fmt::print("{:<24} {:>10.0f}/s   (least {:.0f}, most {:.0f} of {})\n", row.name, bench::median(row.per_second), *least, *most,
               rounds);
  }
}

// --- mounting

uint64_t memory_kib(const std::string& field) {
  std::ifstream in("/proc/self/smaps_rollup");
  for (std::string word; in >> word;)
    if (uint64_t n; word == field + ":" && in >> n) return n;
  return 0;
}

// Runs `f` in a process that ends without unmounting.
void in_child(const std::function<void()>& f) {
  std::fflush(stdout);
  pid_t pid = ::fork();
  if (pid == 0) {
    int code = 0;
    try {
      f();
    } catch (const std::exception& e) {
      fmt::print(stderr, "meta_bench: {}\n", e.what());
      code = 1;
    }
    std::fflush(stdout);
    ::_exit(code);
  }
  int status = 1;
  if (pid < 0 || ::waitpid(pid, &status, 0) != pid || status != 0) fail(EIO, "a child failed");
}

void fill(const std::filesystem::path& dir, uint64_t files) {
  auto s = meta::Store::open(dir / "meta");
  Ino parent{};
  for (uint64_t k = 0; k < files; ++k) {
    if (k % 10'000 == 0) parent = s->mkdir(kRootIno, "d" + std::to_string(k), 0700, 0, 0);
    Ino i = s->create(parent, "file-" + std::to_string(k), 0600, 0, 0);
    s->commit_extent(i, {Pgoff(0), s->reserve(Pfn(k), 1, 1).first, 1, false}, 4096);
  }
}

void mount(const std::string& parent, uint64_t files, uint64_t blocks) {
  TempDir dir(parent);
  create_shmem_region(dir.path / "data", blocks, false);
  const uint64_t pool = std::max<uint64_t>(files * 1024, 64 << 20);
  meta::Store::format(dir.path / "meta", {blocks, static_cast<uint32_t>(RegionKind::kShmem), true}, pool);
  auto begun = Clock::now();
  in_child([&] { fill(dir.path, files); });
  const double filling = since(begun);
  in_child([&] {
    VolumeOptions o;
    o.probe = false;
    const uint64_t anon = memory_kib("Anonymous"), shm = memory_kib("Rss") - anon;
    auto t = Clock::now();
    auto* v = new MountedVolume(dir.path, o);  // never unmounted: the next mount finds a crash too
    const double bare = since(t);
    const uint64_t anon2 = memory_kib("Anonymous"), shm2 = memory_kib("Rss") - anon2;
    t = Clock::now();
    v->unlink("/d0/file-1");
    fmt::print("{:>9} files, region {:>6} GiB: mount {:>8.1f} ms, {:>7} KiB of its own, {:>7} KiB of the pool and region; "
               "first unlink {:.1f} ms (made in {:.0f} s)\n",
               files, blocks >> 18, bare * 1e3, anon2 - anon, shm2 - shm, since(t) * 1e3, filling);
  });
  in_child([&] {
    auto t = Clock::now();
    new MountedVolume(dir.path, {});
    fmt::print("{:>61} {:>8.1f} ms with the probe in a child process\n", "", since(t) * 1e3);
  });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("What metadata costs.");
  unsigned rounds = 5;
  bool mounts = false;
  std::vector<uint64_t> files{10'000, 1'000'000};
  std::string parent = "/dev/shm";
  app.add_option("--rounds", rounds, "of the operations; medians are shown")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_flag("--mount", mounts, "mount after a crash, instead of the operations");
  app.add_option("--files", files, "with so many files")->capture_default_str();
  app.add_option("--dir", parent, "a directory on tmpfs")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    if (!mounts) {
      operations(parent, rounds);
      return 0;
    }
    for (uint64_t n : files) mount(parent, n, 16ull << 18);
    mount(parent, files[0], 1024ull << 18);  // a region 64 times as large
    return 0;
  } catch (const std::exception& e) {
    fmt::print(stderr, "meta_bench: {}\n", e.what());
    return 1;
  }
}
