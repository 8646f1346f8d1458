// Write faults in the first half of a file while a puncher works elsewhere, or there.
#pragma once

#include <cstdint>

#include "bench/place.h"

namespace pmfs::bench {

inline constexpr unsigned kPunchesPerSecond = 1000;  // of a paced puncher
inline constexpr unsigned kMaxClients = 16;

enum class Pace { kNone, kPaced, kFull };
enum class Target {
  kOtherHalf,  // punch and refill 64 KiB after 64 KiB of the second half
  kOtherFile,  // the same of another file: what the load alone costs
  kSameHalf,   // the same of the half that faults
  kTail,       // cut the last 64 KiB off, grow the file and refill: truncate instead of punch
};

struct BesideWork {
  uint64_t half = 32 << 20;  // bytes
  double seconds = 1;
  unsigned clients = 1;      // that fault; at most kMaxClients
  bool fresh = false;        // each page of a fresh half once; else the PTE of a random page is dropped and it is
                             // stored to, until the time is up. One client only.
  Pace pace = Pace::kNone;
  Target target = Target::kOtherHalf;
};

struct BesideFigures {
  double faults_per_second, p50_ns, p99_ns, p999_ns, punches_per_second;
};

// Makes the files it needs and removes them. Clients and puncher are processes. Throws what goes wrong.
BesideFigures faults_beside(const Places& places, Side side, const BesideWork& work);

}  // namespace pmfs::bench
