// pmfs mkfs: makes a volume. Manager's side: no client headers here.

#include <cstring>
#include <memory>

#include <fmt/format.h>

#include "pmfs/base/error.h"
#include "pmfs/base/types.h"
#include "pmfs/fs/volume.h"
#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

struct Options {
  std::string dir, size;
  bool sparse = false, force = false;
};

void mkfs(const Context& c, const Options& o) {
  const uint64_t bytes = parse_size(o.size, "--size");
  if (bytes % kBlockSize != 0) {
    throw UsageError(fmt::format("--size {}: is not a multiple of the block size, {}; round it", o.size, kBlockSize));
  }
  FormatOptions f;
  f.blocks = bytes / kBlockSize;
  f.sparse = o.sparse;
  f.force = o.force;
  format_volume(o.dir, f);
  if (c.json) {
    print_json({{"volume", o.dir}, {"blocks", f.blocks}, {"block_size", kBlockSize}, {"bytes", bytes},
                {"sparse", o.sparse}});
  } else {
    fmt::print("{}: a volume of {} ({} blocks of {} bytes{}); serve it with: pmfs serve {}\n", o.dir,
               human_size(bytes), f.blocks, kBlockSize, o.sparse ? ", sparse" : "", o.dir);
  }
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
  CLI::App* cmd = add_command(app, c, "mkfs", "Make a volume in a directory on tmpfs",
                              "  pmfs mkfs /dev/shm/vol --size 1G\n"
                              "  pmfs mkfs /dev/shm/vol --size 16G --sparse     take memory as it is used\n"
                              "  pmfs mkfs /dev/shm/vol --size 1G --force       destroy the volume that is there\n",
                              [&c, o] { mkfs(c, *o); });
  cmd->add_option("DIR", o->dir, "directory of the volume; made if there is none")->required();
  cmd->add_option("--size", o->size, "size of the region, 16M or more: bytes, or with K, M, G or T")->required();
  cmd->add_flag("--sparse", o->sparse, "don't reserve the region's memory now");
  cmd->add_flag("--force", o->force, "replace the volume that is there, with all its files");
}

}  // namespace pmfs::cli
