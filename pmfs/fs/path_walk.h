// PathWalk: one walk along a path of the volume. Symbolic links on the way are followed, 40 at most (ELOOP); an
// absolute one starts at the root of the volume. "" and "." are skipped, ".." goes up; a path that ends in '/' or in
// "." means a directory.
//
// Nothing is locked between two steps: what a step found may be gone at the next one, which then says so.
// Source: path_resolution(7), fs/namei.c link_path_walk, MAXSYMLINKS.
#pragma once

#include <sys/stat.h>

#include <string>
#include <string_view>
#include <vector>

#include "pmfs/meta/store.h"

namespace pmfs {

enum class FollowLast : bool { kNo, kYes };  // a symbolic link that is the last component

class PathWalk {
 public:
  static constexpr unsigned kMaxLinks = 40;
  // EINVAL: not absolute, a NUL byte; ENAMETOOLONG.
  PathWalk(meta::Store& store, std::string_view path);

  // To the last component, which is not looked up. Empty name: the path is the root.
  struct Place {
    Ino dir;
    std::string name;
    bool must_be_dir;
  };
  Place to_parent();
  // After to_parent(), when its place is the symbolic link `link`: goes on where that one points.
  void follow(Ino link);
  // To the end. ENOENT, ENOTDIR, ELOOP.
  Ino to_end(FollowLast last);

 private:
  void push(std::string_view path);
  Ino look_up(const std::string& name);
  bool is_link(Ino ino) { return S_ISLNK(store_.getattr(ino).mode); }

  meta::Store& store_;
  const std::string path_;
  Ino at_ = kRootIno;
  std::vector<std::string> todo_;  // last one first
  bool must_be_dir_ = false;
  unsigned links_ = 0;
};

}  // namespace pmfs
