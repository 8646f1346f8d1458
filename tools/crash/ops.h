// The operations that workloads are made of, as text and as calls of the manager.
#pragma once

#include <string>
#include <vector>

#include "tools/crash/state.h"

namespace pmfs::crash {

struct Op {
  enum Kind : uint8_t {
    kCreate, kMkdir, kUnlink, kRmdir, kRename,     // names
    kLink, kSymlink, kRenameNew, kExchange,
    kWrite, kAppend,                               // data through the manager
    kStorePersist, kStoreFsync,                    // stores to a mapping
    kTruncate, kPunch, kZeroRange, kPreallocate,   // size and holes
    kCollapse, kInsert,                            // what is behind moves
    kClone, kCopy,                                 // from one file to another
    kChmod, kSetXattr, kRemoveXattr, kQuota,       // attributes; limits of a user
    kGrow,                                         // the region
  };
  Kind kind = kCreate;
  std::string path, other;  // other: the new name, the target, the attribute's name
  uint64_t offset = 0, other_offset = 0, bytes = 0;  // bytes: or the size, the mode, a limit
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
