// What a volume holds, as far as its users can see, and whether what a cut left of it is allowed.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "pmfs/fs/volume.h"

namespace pmfs::crash {

struct NodeState {
  uint64_t ino = 0, size = 0;
  uint32_t mode = 0, uid = 0, gid = 0, nlink = 0;
  int64_t mtime_ns = 0, ctime_ns = 0, btime_ns = 0;
  std::vector<std::byte> data;  // of a file: all of it; of a symbolic link: where it leads
  std::map<std::string, std::vector<std::byte>> xattrs;
  std::vector<std::string> quotas;  // of the root: the volume's
  uint64_t blocks = 0;              // of the root: of the region
  bool operator==(const NodeState&) const = default;
};
using VolumeState = std::map<std::string, NodeState>;  // by path; the root is "/"

// Reads all of it. Throws pmfs::Error.
VolumeState read_state(MountedVolume& v);

// What an operation that is under way may have done to its file by now, beyond "nothing" and "all".
struct Partial {
  std::string path;    // "": it is atomic
  std::string source;  // a file that it only reads, but whose blocks (and so its ctime) it may change
  bool whole = false;  // contents and size change together
};

// Nothing if `found` is what the volume may hold in the middle of an operation that turns `before` into `after`;
// else what is wrong. With `partial` each byte and each time of that file may be the old or the new one, and its size
// either or one between, if the operation grows it; what is behind the old size is new. Links, mode, owner, attributes
// are never the operation's matter.
std::optional<std::string> judge(const VolumeState& found, const VolumeState& before, const VolumeState& after,
                                 const Partial& partial);

}  // namespace pmfs::crash
