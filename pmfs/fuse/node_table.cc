#include "pmfs/fuse/node_table.h"

#include <sys/stat.h>

#include "pmfs/base/error.h"

namespace pmfs::fuse {

namespace {
constexpr int kMaxAttempts = 10'000;  // of a name that others keep changing, in microseconds each time
}

NodeTable::~NodeTable() {
  std::unordered_map<uint64_t, Node> all;
  {
    MutexLock l(mutex_);
    all.swap(nodes_);
  }
  for (auto& [ino, node] : all) release(Ino{ino}, std::move(node));
}

NodeTable::Node NodeTable::hold(Ino ino) {
  Node n;
  if (S_ISREG(volume_.store().getattr(ino).mode)) {
    n.file = InodeRef(volume_, volume_.get(ino));
  } else {
    volume_.pin(ino);
    n.pinned = true;
  }
  return n;
}

void NodeTable::release(Ino ino, Node&& n) {
  n.file = {};
  if (!n.pinned) return;
  try {
    volume_.unpin(ino);
  } catch (const Error&) {  // a nameless directory that could not be freed: on the orphan list until the next mount
  }
}

// What the table has already can't change its meaning. Else it is held first and the name looked up once more: only
// then the number is known not to have been given to something else in between.
std::optional<Ino> NodeTable::find(Ino dir, std::string_view name) {
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const std::optional<Ino> found = volume_.store().find(dir, name);
    if (!found) return found;
    const Ino ino = *found;
    {
      MutexLock l(mutex_);
      if (const auto it = nodes_.find(to_u64(ino)); it != nodes_.end()) {
        ++it->second.lookups;
        return ino;
      }
    }
    Node node;
    try {
      node = hold(ino);
    } catch (const Error& gone) {
      if (gone.err() == ENOENT || gone.err() == EISDIR || gone.err() == ELOOP) continue;
      throw;
    }
    std::optional<Ino> again;
    try {
      again = volume_.store().find(dir, name);
    } catch (const Error&) {
      release(ino, std::move(node));
      throw;
    }
    if (again == ino) {
      MutexLock l(mutex_);
      Node& there = nodes_[to_u64(ino)];
      if (++there.lookups == 1) {
        there.file = std::move(node.file);
        there.pinned = std::exchange(node.pinned, false);
        return ino;
      }
    }
    release(ino, std::move(node));  // another lookup has put it there meanwhile, or the name means something else
    if (again == ino) return ino;
  }
  fail(EBUSY, "{}: keeps being created and removed by others", name);
}

Ino NodeTable::lookup(Ino dir, std::string_view name) {
  const auto ino = find(dir, name);
  if (!ino) fail(ENOENT, "{}: no such file", name);
  return *ino;
}

void NodeTable::forget(Ino ino, uint64_t lookups) {
  Node gone;
  {
    MutexLock l(mutex_);
    const auto it = nodes_.find(to_u64(ino));
    if (it == nodes_.end()) return;  // the root is not counted
    if (it->second.lookups > lookups) {
      it->second.lookups -= lookups;
      return;
    }
    gone = std::move(it->second);
    nodes_.erase(it);
  }
  release(ino, std::move(gone));
}

bool NodeTable::large(Ino ino) {
  {
    MutexLock l(mutex_);
    const auto it = nodes_.find(to_u64(ino));
    if (it == nodes_.end() || !it->second.file) return false;
  }
  try {
    return volume_.store().getattr(ino).blocks > 256;
  } catch (const Error&) {  // damaged: who knows
    return true;
  }
}

InodeRef NodeTable::file(Ino ino) {
  {
    MutexLock l(mutex_);
    const auto it = nodes_.find(to_u64(ino));
    if (it != nodes_.end() && it->second.file) return it->second.file;
  }
  const bool dir = S_ISDIR(volume_.store().getattr(ino).mode);
  fail(dir ? EISDIR : EINVAL, "inode {}: is not a regular file", to_u64(ino));
}

}  // namespace pmfs::fuse
