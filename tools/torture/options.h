// The command line of pmfs-torture.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace torture {

enum MixOp : unsigned {
  kMixTouch, kMixPunch, kMixTruncate, kMixZero, kMixRead, kMixWrite, kMixAppend, kMixRecreate, kMixRename, kMixRemap,
  kMixFork, kMixPipe, kMixOps
};
inline constexpr const char* kMixNames[kMixOps] = {"touch",  "punch",    "truncate", "zero",  "read", "write",
                                                   "append", "recreate", "rename",   "remap", "fork", "pipe"};

struct Options {
  std::string volume;  // a served one; empty: make our own
  std::string target;  // a directory of any file system
  std::string directory = "/dev/shm";  // where our own volume is made
  std::string device;                  // devdax, for its data; or none
  std::string exclusion = "range";
  uint64_t seed = 0;
  double seconds = 60;
  unsigned clients = 8, files = 4;
  uint64_t file_bytes = 8 << 20;
  uint64_t volume_bytes = 512 << 20;
  std::string unit;  // of our own volume; empty: as mkfs chooses
  // By MixOp. Fault-heavy: a touch is a burst of accesses, most of them to pages that were just taken away.
  std::array<uint32_t, kMixOps> mix = {8000, 600, 80, 60, 60, 60, 10, 6, 6, 20, 6, 60};
  double kills = 1, stops = 4;  // per second
  bool kill_clients = true, kill_manager = false;
  double manager_kills = 2;     // per second
  unsigned jitter = 0;
  unsigned pagers = 2, workers = 4;
  bool json = false, quiet = false, keep_going = false, force_acked = false;
};

// Parses; a return value >= 0 is the exit code to leave with.
int parse_options(int argc, char** argv, Options* o);

}  // namespace torture
