// pmfs grow: makes a volume larger, through its manager if it has one.

#include <cerrno>
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include "pmfs/pmfs.hpp"
#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

struct Options {
  std::string volume, size;
};

void grow(const Context& c, const Options& o) {
  const uint64_t bytes = parse_size(o.size, "SIZE");
  if (bytes % 4096 != 0) throw UsageError(fmt::format("{}: is not a multiple of the block size, 4096; round it", o.size));
  bool served = !grow_offline(o.volume, bytes);
  if (served) Volume(o.volume).grow(bytes);
  if (c.json) return print_json({{"volume", o.volume}, {"bytes", bytes}, {"served", served}});
  fmt::print("{}: has {} now\n", o.volume, human_size(bytes));
}

}  // namespace

void add_grow(CLI::App& app, Context& c) {
  auto o = std::make_shared<Options>();
  CLI::App* cmd = add_command(app, c, "grow", "Make a volume larger, served or not",
                              "  pmfs grow /dev/shm/vol 4G     while clients go on, if it is served\n",
                              [&c, o] { grow(c, *o); });
  cmd->add_option("VOLUME_DIR", o->volume, "the volume")->required();
  cmd->add_option("SIZE", o->size, "of all of the region: bytes, or with K, M, G or T")->required();
}

}  // namespace pmfs::cli
