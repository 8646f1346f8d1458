// A repair never touches the damaged pool: what could be saved of it goes into a new one, that is checked, and only
// then takes the old one's name. The old one is kept beside it.
#include "pmfs/fsck/fsck.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/unique_fd.h"
#include "pmfs/fs/volume.h"
#include "pmfs/base/guarded.h"
#include "pmfs/fsck/rebuild.h"
#include "pmfs/meta/superblock.h"

namespace pmfs::fsck {
namespace {

constexpr const char* kNew = "meta.repair";

void check_version(const PoolView& pool, const std::filesystem::path& path) {
  const meta::SuperblockMedia& sb = pool.root().sb;
  if (meta::superblock_checksum(sb) != sb.checksum) return;  // what it says means nothing
  if (sb.version != meta::kFormatVersion || (sb.features_incompat & ~meta::kKnownIncompat) != 0 ||
      (sb.features_ro & ~meta::kKnownRo) != 0) {
    fail(ENOTSUP, "{}: has format version {}, features {:#x}; this pmfs checks version {}: use the one that made it",
         path.string(), sb.version, sb.features_incompat | sb.features_ro, meta::kFormatVersion);
  }
}

// Free name for the damaged pool.
std::filesystem::path kept_name(const std::filesystem::path& dir) {
  for (int k = 1;; ++k) {
    auto p = dir / fmt::format("meta.damaged.{}", k);
    if (!std::filesystem::exists(p)) return p;
  }
}

void repair(const std::filesystem::path& dir, RawRegion& region, Outcome* o, const Options& options, Result* r) {
  Saved& v = o->saved;
  std::filesystem::remove(dir / kNew);  // of a repair that was cut short
  if (region.blocks() < v.sb.blocks) region.extend(v.sb.blocks);
  copy_clones(&v, region);
  rebuild(v, dir / kNew, options.progress);
  // A look at the result with the store's own eyes before it counts.
  Guarded g = guarded(options.child_seconds, [&] {
    std::string all;
    for (const auto& f : meta::Store::open(dir / kNew)->check()) all += f + "; ";
    return all;
  });
  if (!g.problem.empty() || !g.output.empty()) {
    std::filesystem::remove(dir / kNew);
    fail(EUCLEAN, "{}: the repaired metadata does not pass its check ({}{}); nothing was changed", dir.string(),
         g.problem, g.output);
  }
  auto kept = kept_name(dir);
  std::filesystem::create_hard_link(dir / "meta", kept);
  std::filesystem::rename(dir / kNew, dir / "meta");
  UniqueFd d(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (d) ::fsync(d.get());
  r->repaired = true;
  r->kept = kept;
}

uint64_t blocks_of(const Saved& v) {
  std::vector<Extent> all;
  for (const auto& [n, i] : v.inodes)
    for (const FileExtent& e : i.extents) all.push_back(e.blocks());
  std::sort(all.begin(), all.end(), [](Extent a, Extent b) { return a.first < b.first; });
  uint64_t blocks = 0;
  Pfn at(0);
  for (Extent e : all) {  // shared ones once
    if (e.end() <= at) continue;
    blocks += e.end() - std::max(at, e.first);
    at = e.end();
  }
  return blocks;
}

}  // namespace

Result run(const std::filesystem::path& dir, const Options& options) {
  if (!std::filesystem::exists(dir / "meta"))
    fail(ENOENT, "volume {}: there is no volume; make one with pmfs mkfs {} --size 1G", dir.string(), dir.string());
  UniqueFd lock = lock_volume(dir);
  RawRegion region(dir / "data", options.repair);
  PoolView pool(dir / "meta", options.child_seconds);
  check_version(pool, dir / "meta");
  Outcome o = salvage(pool, region, options.progress);
  Result r;
  r.found = o.found;
  r.lost = o.saved.lost;
  r.blocks_total = o.saved.sb.blocks;
  for (const auto& [n, i] : o.saved.inodes) {
    ++r.inodes;
    r.directories += S_ISDIR(i.media.mode);
  }
  r.blocks_used = blocks_of(o.saved);
  if (options.repair && o.found > 0) repair(dir, region, &o, options, &r);
  r.findings = std::move(o.findings);
  return r;
}

}  // namespace pmfs::fsck
