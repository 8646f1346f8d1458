#include "pmfs/fs/path_walk.h"

#include "pmfs/base/error.h"

namespace pmfs {

PathWalk::PathWalk(meta::Store& store, std::string_view path) : store_(store), path_(path) {
  if (path.empty() || path[0] != '/')
    fail(EINVAL, "path '{}': must be absolute within the volume, as in /dir/file", path);
  if (path.find('\0') != std::string_view::npos) fail(EINVAL, "path with a NUL byte");
  push(path);
}

// Puts the components of `path` in front of what is left to do.
void PathWalk::push(std::string_view path) {
  std::vector<std::string> parts;
  std::string_view last;
  for (size_t from = 0; from <= path.size();) {
    size_t slash = std::min(path.find('/', from), path.size());
    last = path.substr(from, slash - from);
    from = slash + 1;
    if (last.empty() || last == ".") continue;
    if (last.size() > meta::kMaxName) fail(ENAMETOOLONG, "name of {} bytes; at most {}", last.size(), meta::kMaxName);
    parts.emplace_back(last);
  }
  if (todo_.empty() && (last.empty() || last == ".")) must_be_dir_ = true;
  todo_.insert(todo_.end(), parts.rbegin(), parts.rend());
}

Ino PathWalk::look_up(const std::string& name) {
  try {
    return name == ".." ? store_.parent(at_) : store_.lookup(at_, name);
  } catch (const Error& e) {
    fail(e.err(), "{}: '{}': {}", path_, name, e.message());
  }
}

void PathWalk::follow(Ino link) {
  if (++links_ > kMaxLinks) fail(ELOOP, "{}: more than {} symbolic links on the way", path_, kMaxLinks);
  std::string target = store_.readlink(link);
  if (target[0] == '/') at_ = kRootIno;
  push(target);
}

PathWalk::Place PathWalk::to_parent() {
  while (todo_.size() > 1) {
    std::string name = std::move(todo_.back());
    todo_.pop_back();
    Ino next = look_up(name);
    if (is_link(next))
      follow(next);
    else
      at_ = next;
  }
  if (todo_.empty()) return {at_, "", true};
  std::string name = std::move(todo_.back());
  todo_.pop_back();
  return {at_, std::move(name), must_be_dir_};
}

Ino PathWalk::to_end(FollowLast last) {
  for (;;) {
    Place p = to_parent();
    if (p.name.empty()) return at_;
    Ino found = look_up(p.name);
    if ((last == FollowLast::kYes || p.must_be_dir) && is_link(found)) {
      follow(found);
      continue;
    }
    if (p.must_be_dir && !S_ISDIR(store_.getattr(found).mode)) fail(ENOTDIR, "{}: not a directory", path_);
    return found;
  }
}

}  // namespace pmfs
