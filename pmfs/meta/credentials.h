// Who asks for a change of the namespace, as the layer above knows it (the socket's peer, the FUSE request), and the
// few decisions that depend on it. Sources: credentials(7), inode(7), fs/attr.c setattr_prepare, fs/namei.c
// __check_sticky.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace pmfs::meta {

struct Credentials {
  uint32_t uid = 0, gid = 0;
  std::vector<uint32_t> groups{};  // supplementary ones

  bool privileged() const { return uid == 0; }
  bool in_group(uint32_t g) const {
    return g == gid || std::find(groups.begin(), groups.end(), g) != groups.end();
  }
  bool owns(uint32_t owner) const { return privileged() || uid == owner; }
  // Whether the write bit that is meant for them is set.
  bool may_write(uint32_t mode, uint32_t owner, uint32_t group) const {
    if (privileged()) return true;
    uint32_t shift = uid == owner ? 6 : in_group(group) ? 3 : 0;
    return ((mode >> shift) & 2) != 0;
  }
};

}  // namespace pmfs::meta
