#include "tools/crash/explore.h"

#include <cstring>
#include <unordered_set>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "pmfs/base/error.h"
#include "pmfs/fs/inode_ref.h"
#include "pmfs/region/shmem_region.h"
#include "tools/crash/cuts.h"
#include "tools/crash/interpose.h"

namespace pmfs::crash {
namespace {

constexpr uint64_t kPoolBytes = 8 << 20;
constexpr int kStale = 0xee;
constexpr uint64_t kDataBytes = kMinBlocks * kBlockSize, kMostDataBytes = 2 * kDataBytes;  // room to grow
constexpr uint32_t kMount = UINT32_MAX;  // as an operation: what a mount does to a volume that crashed

std::unique_ptr<MountedVolume> mount(const std::filesystem::path& dir) {
  VolumeOptions o;
  o.probe = false;  // it would double the time; a worker that dies is noticed all the same
  return std::make_unique<MountedVolume>(dir, o);
}

VolumeFiles files_in(const std::filesystem::path& dir) {
  return files_of((dir / "meta").c_str(), (dir / "data").c_str());
}

uint8_t value_of(size_t op) { return static_cast<uint8_t>(op % 0xd0 + 0x10); }

// In a process of its own that ends without unmounting: free blocks are dirty then, as after any crash, and full of
// what must never be read.
void run_and_crash(const std::filesystem::path& dir, const Workload& ops) {
  pid_t pid = ::fork();
  if (pid == 0) {
    try {
      auto v = mount(dir);
      size_t n = 0;
      for (const Op& op : ops) run_op(*v, op, value_of(0xc0 + n++));
      for (Extent e : v->store().free_extents(Pfn(0), SIZE_MAX))
        std::memset(v->region().address(e.first), kStale, e.count * kBlockSize);
      ::_exit(0);
    } catch (const Error&) {
      ::_exit(1);
    }
  }
  int status = 1;
  if (pid < 0 || ::waitpid(pid, &status, 0) != pid || status != 0)
    fail(EIO, "{}: can't set the volume up", dir.string());
}

// A volume that recovered must be good for more: a file that reads as zero until it is written.
std::optional<std::string> probe(MountedVolume& v) {
  constexpr const char* kName = "/probe-of-the-explorer";
  std::vector<std::byte> data(5 * kBlockSize), in(3000, std::byte{0x7f});
  {
    InodeRef i(v, v.open(kName, O_RDWR | O_CREAT | O_EXCL, 0600, 0, 0));
    v.preallocate(*i, 0, 2 * kBlockSize, false);
    v.truncate(*i, 5 * kBlockSize);
    v.write(*i, in, 3 * kBlockSize + 100);
    if (v.read(*i, data, 0) != data.size()) return "a new file can't be read";
    for (size_t k = 0; k < data.size(); ++k) {
      bool written = k >= 3 * kBlockSize + 100 && k < 3 * kBlockSize + 100 + in.size();
      if (data[k] != (written ? in[0] : std::byte{0})) {
        return fmt::format("a new file has {:#04x} at offset {}", static_cast<unsigned>(data[k]), k);
      }
    }
  }
  v.unlink(kName);
  auto findings = v.store().check();
  if (!findings.empty()) return "after new operations: " + findings[0];
  return std::nullopt;
}

}  // namespace

Explorer::Explorer(std::filesystem::path dir, std::filesystem::path start, Limits limits,
                   std::function<void(const Finding&)> found, std::function<void(const std::string&)> beat)
    : dir_(std::move(dir)),
      start_(std::move(start)),
      limits_(limits),
      found_(std::move(found)),
      beat_(std::move(beat)) {}

void Explorer::make_start(const std::filesystem::path& dir) {
  std::filesystem::create_directories(dir);
  create_shmem_region(dir / "data", kMinBlocks, false);
  meta::Store::format(dir / "meta", {kMinBlocks, static_cast<uint32_t>(RegionKind::kShmem), true}, kPoolBytes);
  run_and_crash(dir, setup());
}

void Explorer::make_later(const std::filesystem::path& from, const std::filesystem::path& dir, size_t ops) {
  std::filesystem::create_directories(dir);
  for (const char* f : {"meta", "data"}) std::filesystem::copy_file(from / f, dir / f);
  run_and_crash(dir, planned(exhaustive_count() + 1, 7, ops).ops);
}

Explorer::Trace Explorer::record(const Workload& ops) {
  Trace t;
  Image files(dir_ / "recorded", start_, kMostDataBytes);
  Recorder recorder(limits_.sabotage);
  recorder.data_bytes(kDataBytes);
  pretend_data_bytes(kDataBytes);
  interpose(Mode::kRecord, files_in(files.dir()), &recorder);
  recorder.begin_op(kMount);
  {
    auto v = mount(files.dir());
    recorder.end_op();
    t.states.push_back(read_state(*v));
    for (uint32_t i = 0; i < ops.size(); ++i) {
      recorder.begin_op(i);
      run_op(*v, ops[i], value_of(i));
      recorder.end_op();
      t.states.push_back(read_state(*v));
    }
    recorder.remove_area(Area::kMeta);
    recorder.remove_area(Area::kData);
    interpose(Mode::kPlain, {}, nullptr);
  }
  t.steps = recorder.take();
  return t;
}

std::vector<Step> Explorer::record_mount(const std::filesystem::path& from, uint64_t data_bytes) {
  Image files(dir_ / "recovered", from);
  Recorder recorder(limits_.sabotage);
  recorder.data_bytes(data_bytes);
  pretend_data_bytes(data_bytes);
  interpose(Mode::kRecord, files_in(files.dir()), &recorder);
  recorder.begin_op(kMount);
  {
    auto v = mount(files.dir());
    recorder.remove_area(Area::kMeta);
    recorder.remove_area(Area::kData);
    interpose(Mode::kPlain, {}, nullptr);
  }
  return recorder.take();
}

void Explorer::report(const std::string& what) {
  Finding f;
  f.workload = text_of(workload_->ops);
  f.what = what;
  f.step = step_;
  f.image = number_;
  found_(f);
}

void Explorer::judge_image(Image& image, const Trace& t, const Step& s, uint64_t data_bytes, bool probe_too) {
  const bool mounting = s.op == kMount;
  uint64_t key = image.hash() ^ (uint64_t{s.op} * 2 + s.done) * 0x9e3779b97f4a7c15 ^ data_bytes * 0xc4ceb9fe1a85ec53;
  if (!seen_.insert(key).second) return;
  ++tally_->images;
  beat_(fmt::format("{} [step {}, image {}]", text_of(workload_->ops), step_, number_));
  const VolumeState& before = t.states[mounting ? 0 : s.op];
  const VolumeState& after = t.states[mounting ? 0 : s.op + 1];
  std::string doing =
      mounting ? "mounting"
               : fmt::format("'{}' {}", text_of(workload_->ops[s.op]), s.done ? "had returned" : "was under way");
  interpose(Mode::kPrivate, files_in(image.dir()), nullptr);
  pretend_data_bytes(data_bytes);
  try {
    auto v = mount(image.dir());
    for (const std::string& f : v->store().check()) report(doing + ", and fsck finds: " + f);
    meta::Space space = v->store().space();
    if (space.blocks_deferred != 0 || space.blocks_reserved != 0)
      report(doing + ", and blocks are not settled by the mount");
    VolumeState found = read_state(*v);
    auto wrong = judge(found, s.done ? after : before, after,
                       s.done ? Partial{} : partial_of(workload_->ops[mounting ? 0 : s.op]));
    if (wrong) report(doing + ", and after the cut " + *wrong);
    if (probe_too && !wrong)
      if (auto bad = probe(*v)) report(doing + ", and after the cut " + *bad);
  } catch (const std::exception& e) {
    report(doing + ", and the image can't be used: " + e.what());
  }
  interpose(Mode::kPlain, {}, nullptr);
}

void Explorer::cut_recovery(Image& image, const Trace& t, const Step& s) {
  ++tally_->recoveries;
  const size_t mark = image.mark();
  for (const Step& r : record_mount(image.dir(), s.data_bytes)) {
    bool complete;
    for (const Choice& c : choices(r, 4, limits_.seed + step_, &complete)) {
      const size_t before = image.mark();
      for (size_t i = 0; i < c.size(); ++i)
        if (c[i] > 0) image.set(r.pending[i].id, r.pending[i].versions[c[i] - 1u]);
      judge_image(image, t, s, r.data_bytes, false);
      image.back_to(before);
    }
    image.advance(r);
  }
  image.back_to(mark);
}

void Explorer::explore(const Planned& w, Tally* tally) {
  workload_ = &w;
  tally_ = tally;
  seen_.clear();
  step_ = number_ = 0;
  beat_(text_of(w.ops));
  const Trace t = record(w.ops);
  Image image(dir_ / "image", start_, kMostDataBytes);
  for (step_ = 0; step_ < t.steps.size(); ++step_) {
    const Step& s = t.steps[step_];
    if (s.op != kMount && s.op >= w.first_looked_at) {
      ++tally->steps;
      bool complete = false;
      auto all = choices(s, w.ops.size() > 2 ? std::max<size_t>(limits_.per_step / 2, 4) : limits_.per_step,
                         limits_.seed * 1'000'003 + step_, &complete);
      tally->complete_steps += complete;
      for (number_ = 0; number_ < all.size(); ++number_) {
        const Choice& c = all[number_];
        const size_t mark = image.mark();
        for (size_t i = 0; i < c.size(); ++i)
          if (c[i] > 0) image.set(s.pending[i].id, s.pending[i].versions[c[i] - 1u]);
        const uint64_t n = ++looked_at_;
        judge_image(image, t, s, s.data_bytes, limits_.probe_every != 0 && n % limits_.probe_every == 0);
        if (limits_.recovery_every != 0 && n % limits_.recovery_every == 0) cut_recovery(image, t, s);
        image.back_to(mark);
      }
    }
    image.advance(s);
  }
}

}  // namespace pmfs::crash
