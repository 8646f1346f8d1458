#include "tools/crash/state.h"

#include <algorithm>

#include <fcntl.h>
#include <sys/stat.h>

#include <fmt/format.h>

#include "pmfs/base/error.h"
#include "pmfs/fs/inode_ref.h"

namespace pmfs::crash {
namespace {

constexpr uint64_t kLargest = 4 << 20;  // what a workload makes of a file, at most

NodeState node_of(MountedVolume& v, const meta::InodeAttr& a) {
  NodeState n;
  n.ino = to_u64(a.ino);
  n.mode = a.mode;
  n.uid = a.uid;
  n.gid = a.gid;
  n.nlink = a.nlink;
  n.size = a.size;
  n.mtime_ns = a.mtime_ns;
  n.ctime_ns = a.ctime_ns;
  n.btime_ns = a.btime_ns;
  for (const std::string& x : v.store().list_xattrs(a.ino, {})) n.xattrs[x] = v.store().get_xattr(a.ino, x, {});
  if (S_ISLNK(a.mode)) {
    const std::string target = v.store().readlink(a.ino);
    for (char c : target) n.data.push_back(static_cast<std::byte>(c));
  }
  if (!S_ISREG(a.mode)) return n;
  if (a.size > kLargest) fail(EFBIG, "inode {}: {} bytes: no workload makes such a file", n.ino, a.size);
  n.data.resize(a.size);
  InodeRef i(v, v.get(a.ino));
  size_t got = v.read(*i, n.data, 0);
  if (got != a.size) fail(EIO, "inode {}: {} bytes read of {}", n.ino, got, a.size);
  return n;
}

void walk(MountedVolume& v, Ino dir, const std::string& path, VolumeState* out) {
  for (const meta::DirEntry& e : v.store().list(dir, 0, SIZE_MAX)) {
    std::string name = path + "/" + e.name;
    if (out->size() > 10'000) fail(ELOOP, "{}: more files than any workload makes", name);
    meta::InodeAttr a = v.store().getattr(e.ino);
    (*out)[name] = node_of(v, a);
    if (S_ISDIR(a.mode)) walk(v, e.ino, name, out);
  }
}

std::string first_difference(const VolumeState& found, const VolumeState& wanted) {
  for (const auto& [path, n] : wanted) {
    auto it = found.find(path);
    if (it == found.end()) return fmt::format("{} is missing", path);
    const NodeState& f = it->second;
    if (f == n) continue;
    if (f.ino != n.ino) return fmt::format("{} is inode {}, not {}", path, f.ino, n.ino);
    if (f.size != n.size) return fmt::format("{} has {} bytes, not {}", path, f.size, n.size);
    if (f.nlink != n.nlink) return fmt::format("{} has nlink {}, not {}", path, f.nlink, n.nlink);
    if (f.mode != n.mode || f.uid != n.uid || f.gid != n.gid) return fmt::format("{} has other attributes", path);
    auto at = std::mismatch(f.data.begin(), f.data.end(), n.data.begin()).first - f.data.begin();
    if (f.data != n.data && f.data.size() == n.data.size()) {
      auto k = static_cast<size_t>(at);
      return fmt::format("{} has {:#04x} at offset {}, not {:#04x}", path, static_cast<unsigned>(f.data[k]), k,
                         static_cast<unsigned>(n.data[k]));
    }
    if (f.data != n.data) return fmt::format("{} leads elsewhere", path);
    if (f.xattrs != n.xattrs) return fmt::format("{} has other extended attributes", path);
    if (f.quotas != n.quotas) return std::string("the quotas are others");
    if (f.blocks != n.blocks) return fmt::format("the volume has {} blocks, not {}", f.blocks, n.blocks);
    return fmt::format("{} has other times", path);
  }
  for (const auto& [path, n] : found)
    if (!wanted.contains(path)) return fmt::format("{} is there", path);
  return "nothing";
}

std::byte at(const NodeState& n, size_t k) { return k < n.data.size() ? n.data[k] : std::byte{0}; }

// What `path` leads to, if it is a symbolic link: operations follow those.
std::string followed(const VolumeState& s, std::string path) {
  for (int most = 8; most > 0; --most) {
    auto it = s.find(path);
    if (it == s.end() || !S_ISLNK(it->second.mode)) break;
    std::string target;
    for (std::byte b : it->second.data) target.push_back(static_cast<char>(b));
    path = target.starts_with('/') ? target : path.substr(0, path.rfind('/') + 1) + target;
  }
  return path;
}

// The file of a partial operation, against what it was and is to be.
std::optional<std::string> judge_file(const std::string& path, const NodeState& f, const NodeState& a,
                                      const NodeState& b, bool whole) {
  if (f.ino != a.ino || f.mode != a.mode || f.uid != a.uid || f.gid != a.gid || f.nlink != a.nlink ||
      f.btime_ns != a.btime_ns || f.xattrs != a.xattrs) {
    return path + " has other attributes";
  }
  if (f.ctime_ns < a.ctime_ns || f.ctime_ns > b.ctime_ns) return path + " has a ctime of no operation";
  if (whole && f.data != a.data && f.data != b.data) return path + " holds neither the old nor the new contents";
  bool grows = b.size > a.size;
  if (f.size != a.size && f.size != b.size && !(grows && f.size > a.size && f.size < b.size)) {
    return fmt::format("{} has {} bytes, neither {} nor {}", path, f.size, a.size, b.size);
  }
  for (size_t k = 0; k < f.data.size(); ++k) {
    // Behind the old end there is nothing old: what is inside the size now was written.
    if (f.data[k] == at(b, k) || (k < a.size && f.data[k] == a.data[k])) continue;
    return fmt::format("{} has {:#04x} at offset {}, neither {} nor {:#04x}", path, static_cast<unsigned>(f.data[k]), k,
                       k < a.size ? fmt::format("{:#04x}", static_cast<unsigned>(a.data[k])) : "beyond the end",
                       static_cast<unsigned>(at(b, k)));
  }
  auto either = [](auto x, auto y, auto z) { return x == y || x == z; };
  if (!either(f.mtime_ns, a.mtime_ns, b.mtime_ns)) {
    // In between it may have been any moment of the operation.
    if (f.mtime_ns < a.mtime_ns || f.mtime_ns > std::max(b.mtime_ns, b.ctime_ns))
      return path + " has an mtime of no operation";
  }
  return std::nullopt;
}

}  // namespace

VolumeState read_state(MountedVolume& v) {
  VolumeState out;
  out["/"] = node_of(v, v.store().getattr(kRootIno));
  for (const meta::Quota& q : v.store().quotas())  // the limits: what is used changes in steps, and fsck checks it
    out["/"].quotas.push_back(
        fmt::format("{} {}: {} {}", static_cast<int>(q.kind), q.id, q.block_limit, q.inode_limit));
  out["/"].blocks = v.store().space().blocks_total;
  walk(v, kRootIno, "", &out);
  return out;
}

std::optional<std::string> judge(const VolumeState& found, const VolumeState& before, const VolumeState& after,
                                 const Partial& operation) {
  if (found == before || found == after) return std::nullopt;
  Partial partial = operation;
  partial.path = followed(before, partial.path);
  partial.source = followed(before, partial.source);
  if (!partial.path.empty()) {
    auto f = found.find(partial.path), a = before.find(partial.path), b = after.find(partial.path);
    if (f != found.end() && a != before.end() && b != after.end()) {
      if (auto wrong = judge_file(partial.path, f->second, a->second, b->second, partial.whole))
        return wrong;
      // All else must be as it was; two names of one file change together, so they are compared by what was judged.
      VolumeState rest = found;
      const uint64_t file = f->second.ino;
      auto source = found.find(partial.source), old = before.find(partial.source), now = after.find(partial.source);
      if (source != found.end() && old != before.end() && now != after.end() && source->second.ino != file) {
        if (auto wrong = judge_file(partial.source, source->second, old->second, now->second, true)) return wrong;
        for (auto& [path, n] : rest)
          if (n.ino == old->second.ino && before.contains(path)) n = before.at(path);
      }
      for (auto& [path, n] : rest)
        if (n.ino == file && before.contains(path)) n = before.at(path);
      if (rest == before) return std::nullopt;
      return "besides its file: " + first_difference(rest, before);
    }
  }
  return fmt::format("neither as before ({}) nor as after ({})", first_difference(found, before),
                     first_difference(found, after));
}

}  // namespace pmfs::crash
