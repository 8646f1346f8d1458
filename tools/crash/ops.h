// The operations that workloads are made of, as text and as calls of the manager.
#pragma once

#include <string>
#include <vector>

#include "tools/crash/state.h"

namespace pmfs::crash {

struct Op {
  enum Kind : uint8_t {
    kCreate, kMkdir, kUnlink, kRmdir, kRename,     // names
    kWrite, kAppend,                               // data through the manager
    kStorePersist, kStoreFsync,                    // stores to a mapping
    kTruncate, kPunch, kZeroRange, kPreallocate,   // size and holes
    kChmod,
  };
  Kind kind = kCreate;
  std::string path, other;      // other: the new name
  uint64_t offset = 0, bytes = 0;  // or the size, or the mode
};
using Workload = std::vector<Op>;

// "rename /a /b; write /b 0 4096". Throws pmfs::Error(EINVAL) naming what is wrong.
Workload parse_workload(const std::string& text);
std::string text_of(const Op& op);
std::string text_of(const Workload& w);

// Runs it; `value` is what data it writes is made of. An operation that is refused (there is no such file) has done
// nothing, and that is fine.
void run_op(MountedVolume& v, const Op& op, uint8_t value);
// What a cut in the middle of it may leave besides all and nothing: docs/durability.md.
Partial partial_of(const Op& op);

}  // namespace pmfs::crash
