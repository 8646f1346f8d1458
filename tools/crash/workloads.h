// The workloads: all sequences of one and of two operations over a few names and ranges, in the manner of ACE
// (Mohan et al., OSDI 2018), and longer ones drawn by a seed.
#pragma once

#include "tools/crash/ops.h"

namespace pmfs::crash {

// What every workload starts from: a file with data and a hole, a directory with a file in it.
Workload setup();
// The operations that sequences are made of.
const std::vector<Op>& alphabet();

struct Planned {
  Workload ops;
  size_t first_looked_at = 0;  // cuts in earlier operations belong to a shorter workload of the plan
};
// Number `n` of the plan: first all of one operation, then all of two, here and there a seeded one of `long_ops`
// operations; behind the others those only.
Planned planned(uint64_t n, uint64_t seed, size_t long_ops);
uint64_t exhaustive_count();  // by then all of one and of two operations were there

}  // namespace pmfs::crash
