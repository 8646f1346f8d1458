// One workload: run and recorded, then each image that a power cut could have left is mounted, checked and judged.
#pragma once

#include <functional>
#include <string>
#include <unordered_set>

#include "tools/crash/image.h"
#include "tools/crash/workloads.h"

namespace pmfs::crash {

struct Limits {
  size_t per_step = 8;          // images of a step, at most; half of it in workloads of more than two operations
  uint64_t recovery_every = 0;  // of so many images one is mounted under the recorder, and cut there again; 0: none
  uint64_t probe_every = 16;    // of so many images one is also written to after its mount
  uint64_t seed = 1;
  Sabotage sabotage = Sabotage::kNone;
};

struct Finding {
  std::string workload, what;
  size_t step = 0, image = 0;
};

struct Tally {
  uint64_t images = 0;     // different ones, mounted and judged
  uint64_t steps = 0, complete_steps = 0;  // steps of which all images were looked at
  uint64_t recoveries = 0;  // images whose recovery was cut
};

class Explorer {
 public:
  // Works in `dir`, which must be on tmpfs, on copies of the volume `start`. `found` is called for each finding,
  // `beat` before each image with what is looked at.
  Explorer(std::filesystem::path dir, std::filesystem::path start, Limits limits,
           std::function<void(const Finding&)> found, std::function<void(const std::string&)> beat);
  // Throws pmfs::Error when the workload itself can't be run. `max_images`: stop there.
  void explore(const Planned& w, Tally* tally);

  // Makes the volume `dir` that workloads start from: set up, not unmounted, and every free block full of 0xee.
  static void make_start(const std::filesystem::path& dir);
  // Makes `dir` from a copy of `from`, with more operations done by seed; not unmounted either.
  static void make_later(const std::filesystem::path& from, const std::filesystem::path& dir, size_t ops);

 private:
  struct Trace {
    std::vector<Step> steps;          // of the mount (op kMount) and of the operations
    std::vector<VolumeState> states;  // before the first operation, after each
  };
  Trace record(const Workload& ops);
  std::vector<Step> record_mount(const std::filesystem::path& from, uint64_t data_bytes);
  // Whether the image's contents are among what may be found at this step; looks at no image twice.
  // `data_bytes`: how long the region's file is there.
  void judge_image(Image& image, const Trace& t, const Step& s, uint64_t data_bytes, bool probe);
  void cut_recovery(Image& image, const Trace& t, const Step& s);
  void report(const std::string& what);

  const std::filesystem::path dir_, start_;
  const Limits limits_;
  const std::function<void(const Finding&)> found_;
  const std::function<void(const std::string&)> beat_;
  const Planned* workload_ = nullptr;
  Tally* tally_ = nullptr;
  std::unordered_set<uint64_t> seen_;
  size_t step_ = 0, number_ = 0;  // where we are
  uint64_t looked_at_ = 0;
};

}  // namespace pmfs::crash
