// pmfs mkfs: makes a volume. Manager's side: no client headers here.

#include <cstring>
#include <memory>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

#include "pmfs/base/error.h"
#include "pmfs/base/types.h"
#include "pmfs/base/unique_fd.h"
#include "pmfs/fs/volume.h"
#include "pmfs/region/pmem2.h"
#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

struct Options {
  std::string dir, meta, data, size, unit;
  bool sparse = false, force = false;
};

std::string percent(double share) { return fmt::format("{:.0f} %", 100 * share); }

// What was found, for who wonders whether this is the memory he means.
struct Found {
  RegionSource source;
  std::string granularity;
  double huge = -1;           // share that 2 MiB pages can map; -1: not known
  std::vector<Extent> bad;    // known bad blocks
  std::string bad_unknown;    // why they are not known
};

Found look(const std::string& dir, const Formatted& made) {
  const RegionSource& source = made.source;
  Found f;
  f.source = source;
  const std::filesystem::path data = std::filesystem::path(dir) / "data";
  const UniqueFd fd(::open(data.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) fail(errno, "{}: can't be opened: {}", data.string(), std::strerror(errno));
  if (!is_dax(source.kind)) {
    f.granularity = fmt::format("cache line (forced: {} nothing over a power cut)", source.kind == RegionKind::kShmem ? "tmpfs keeps" : "huge pages keep");
    return f;
  }
  f.granularity = Pmem2(fd.get(), data, made.unit.bytes(), Pmem2::Need::kWhatItSays).granularity();
  if (f.source.numa_node < 0) f.source.numa_node = pmem2_facts(fd.get()).numa_node;
  f.bad = known_bad_blocks(fd.get(), &f.bad_unknown);
  if (source.kind == RegionKind::kFsdax) f.huge = huge_share(data);
  return f;
}

std::string_view dax_text(const RegionSource& s) {
  if (s.kind == RegionKind::kShmem) return "no (tmpfs)";
  if (s.kind == RegionKind::kHugetlb) return "no (hugetlbfs)";
  return s.emulated() ? "yes, emulated by the kernel (memmap=): DRAM, which keeps nothing over a power cut" : "yes";
}

void print(const Options& o, const Found& f, const Formatted& made) {
  const uint64_t blocks = made.blocks;
  const RegionSource& s = f.source;
  fmt::print("{}: a volume of {} ({} blocks of {} bytes{}); serve it with: pmfs serve {}\n", o.dir,
             human_size(blocks * kBlockSize), blocks, kBlockSize, o.sparse ? ", sparse" : "", o.dir);
  fmt::print("region       {} on {}\n", region_kind_name(s.kind), s.kind == RegionKind::kDevdax ? o.data : s.file_system);
  fmt::print("DAX          {}{}\n", dax_text(s), s.provider.empty() ? "" : fmt::format(" ({})", s.provider));
  fmt::print("granularity  {}\n", f.granularity);
  if (!made.unit.single()) fmt::print("unit         {}: what is allocated, mapped and freed at once\n", human_size(made.unit.bytes()));
  fmt::print("alignment    {} bytes", s.align_bytes);
  if (f.huge >= 0) fmt::print(", 2 MiB pages can map {} of it", percent(f.huge));
  fmt::print("\nnuma node    {}\n", s.numa_node < 0 ? "not known" : std::to_string(s.numa_node));
  if (!is_dax(s.kind)) return;
  uint64_t bad = 0;
  for (const Extent& e : f.bad) bad += e.count;
  if (!f.bad_unknown.empty()) fmt::print("bad blocks   not known: {}\n", f.bad_unknown);
  else if (bad == 0) fmt::print("bad blocks   none\n");
  else fmt::print("bad blocks   {}, which are never used\n", bad);
}

void print_as_json(const Options& o, const Found& f, const Formatted& made) {
  const uint64_t blocks = made.blocks;
  const RegionSource& s = f.source;
  nlohmann::ordered_json bad = nlohmann::ordered_json::array();
  for (const Extent& e : f.bad) bad.push_back({{"block", e.first.v}, {"count", e.count}});
  nlohmann::ordered_json j = {{"volume", o.dir}, {"blocks", blocks}, {"block_size", kBlockSize}, {"unit_bytes", made.unit.bytes()}, {"bytes", blocks * kBlockSize},
                              {"sparse", o.sparse}, {"region_kind", region_kind_name(s.kind)}, {"file_system", s.file_system},
                              {"device", o.data}, {"dax", is_dax(s.kind)}, {"emulated", s.emulated()},
                              {"provider", s.provider}, {"granularity", f.granularity}, {"align_bytes", s.align_bytes},
                              {"huge_share", nullptr}, {"numa_node", nullptr}, {"bad_blocks", bad}};
  if (f.huge >= 0) j["huge_share"] = f.huge;
  if (s.numa_node >= 0) j["numa_node"] = s.numa_node;
  if (!f.bad_unknown.empty()) j["bad_blocks"] = nullptr;
  print_json(j);
}

uint64_t unit_blocks(const std::string& text) {
  const uint64_t bytes = parse_size(text, "--unit");
  if (bytes % kBlockSize != 0 || !Unit::possible(bytes / kBlockSize)) throw UsageError(fmt::format("--unit {}: there are units of 4K and 2M", text));
  return bytes / kBlockSize;
}

void mkfs(const Context& c, Options& o) {
  if (o.dir.empty() == o.meta.empty())
    throw UsageError(o.dir.empty() ? "mkfs: no volume is named; write pmfs mkfs DIR --size 1G"
                                   : "mkfs: --meta names the volume's directory, and so does DIR; leave one out");
  if (o.dir.empty()) o.dir = o.meta;
  if (o.size.empty() && o.data.empty()) throw UsageError("mkfs: how large? --size says so; only a device has a size of its own");
  const uint64_t bytes = o.size.empty() ? 0 : parse_size(o.size, "--size");
  if (bytes % kBlockSize != 0) {
    throw UsageError(fmt::format("--size {}: is not a multiple of the block size, {}; round it", o.size, kBlockSize));
  }
  FormatOptions f;
  f.blocks = bytes / kBlockSize;
  f.sparse = o.sparse;
  f.force = o.force;
  f.device = o.data;
  if (!o.unit.empty()) f.unit_blocks = unit_blocks(o.unit);
  const bool terminal = !c.json && ::isatty(STDERR_FILENO) != 0;
  if (terminal)
    f.progress = [last = uint64_t{101}](uint64_t done, uint64_t of) mutable {
      const uint64_t now = 100 * done / of;
      if (std::exchange(last, now) == now) return;
      fmt::print(stderr, "\rwriting the region: {} of {}{}", human_size(done * kBlockSize), human_size(of * kBlockSize),
                 done == of ? "\n" : "");
    };
  const Formatted made = format_volume(o.dir, f);
  const Found found = look(o.dir, made);
  if (c.json) print_as_json(o, found, made);
  else print(o, found, made);
}

}  // namespace

// Of grow.cc, which is a client's side.
bool grow_offline(const std::string& dir, uint64_t bytes) {
  try {
    MountedVolume(dir, {}).grow(bytes / kBlockSize);
    return true;
  } catch (const Error& e) {
    if (e.err() == EBUSY) return false;
    throw;
  }
}

void add_mkfs(CLI::App& app, Context& c) {
  auto o = std::make_shared<Options>();
  CLI::App* cmd = add_command(app, c, "mkfs", "Make a volume: a directory on tmpfs, or on ext4 or xfs mounted with DAX, or with its data on a devdax device",
                              "  pmfs mkfs /dev/shm/vol --size 1G\n"
                              "  pmfs mkfs /mnt/pmem0/vol --size 100G           on DAX memory; see docs/pmem.md\n"
                              "  pmfs mkfs --data /dev/dax0.0 --meta /mnt/pmem0/vol     all of that device\n"
                              "  pmfs mkfs --data /mnt/huge/vol --meta /var/lib/vol --size 1G   huge pages, on hugetlbfs\n"
                              "  pmfs mkfs /dev/shm/vol --size 16G --sparse     take memory as it is used\n"
                              "  pmfs mkfs /dev/shm/vol --size 16G --unit 2M    large files only: each takes 2 MiB at least\n"
                              "  pmfs mkfs /dev/shm/vol --size 1G --force       destroy the volume that is there\n",
                              [&c, o] { mkfs(c, *o); });
  cmd->add_option("DIR", o->dir, "directory of the volume; made if there is none");
  cmd->add_option("--meta", o->meta, "the same, in another way");
  cmd->add_option("--data", o->data, "devdax device (/dev/daxX.Y), or a file on hugetlbfs (which is made), that the files' data lie on; DIR then has the metadata");
  cmd->add_option("--size", o->size, "size of the region, 16M or more: bytes, or with K, M, G or T; of a device: all of it");
  cmd->add_option("--unit", o->unit, "what is allocated, mapped and freed at once: 4K, or 2M, of which the size is a multiple then; of a device: "
                                     "what its mappings are aligned to, else 4K");
  cmd->add_flag("--sparse", o->sparse,
                "don't reserve the region's memory now; with DAX, where it always is: don't write to it now");
  cmd->add_flag("--force", o->force, "replace the volume that is there, with all its files");
}

}  // namespace pmfs::cli
