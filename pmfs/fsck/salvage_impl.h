// The parts of salvage(), which share what was read so far. In the order they run:
//   TreeReader  a B+tree, node by node
//   Reader      inode table, extents, directory entries, lists          (salvage.cc)
//   Blocks      who owns which block, against the bitmap                (salvage_blocks.cc)
//   Counts      owners of shared blocks, usage of quotas                (salvage_counts.cc)
//   Links       names, link counts, what can be reached, lost+found     (salvage_links.cc)
#pragma once

#include <unordered_map>

#include "pmfs/base/error.h"
#include "pmfs/fsck/salvage.h"

namespace pmfs::fsck {

struct Entry {  // of a directory, as read
  uint64_t dir, ino;
  std::string name;
};

struct Owner {  // of blocks
  Extent blocks;
  uint64_t ino;  // 0: the deferred-free list; kOrphan: a file without a name
  Pgoff pgoff;
  bool shared = false;  // others may own them too
};

class State {
 public:
  State(const PoolView& p, const RawRegion& r, const Progress& pr) : pool(p), region(r), data_blocks(r.blocks()), progress(pr) {}
  template <class... A>
  void add(const char* what, uint64_t ino, std::optional<uint64_t> block, fmt::format_string<A...> f, A&&... a) {
    ++out.found;
    if (out.findings.size() < kMostFindings) {
      out.findings.push_back({what, ino, "", block, fmt::format(f, std::forward<A>(a)...)});
    }
  }
  // An object that is in use: must be inside of the pool, must not be in use twice. nullptr if not.
  template <class T>
  const T* object(uint64_t off, size_t bytes = sizeof(T)) {
    const T* p = pool.at<T>(off, bytes);
    if (p == nullptr || !used.emplace(off, bytes).second) return nullptr;
    return p;
  }

  const PoolView& pool;
  const RawRegion& region;
  const uint64_t data_blocks;
  const Progress& progress;
  Outcome out;
  std::unordered_map<uint64_t, size_t> used;  // objects of the pool: offset -> bytes needed
  std::vector<Entry> entries;
  std::vector<Owner> owners;
  std::map<uint64_t, std::string> paths;  // by ino
  std::vector<Owner> sharers;             // of `owners`: what several may have, and nobody has alone
  std::map<std::pair<meta::QuotaKind, uint32_t>, meta::Quota> usage;  // of each user and project, as the inodes say
  uint64_t blocks = 0;                    // of the region
  bool hash_known = false;
};

// fn(record) for every record that can be read. `what` and `ino` are for findings. False: something could not be read.
bool read_tree(State& s, const meta::Tree& t, uint64_t ino, const std::function<void(const meta::Record&)>& fn);
bool read_subtree(State& s, uint64_t node, uint64_t ino, const std::function<void(const meta::Record&)>& fn);

void read_all(State& s);
void check_blocks(State& s);
void resolve_links(State& s);
void check_counts(State& s);
void check_objects(State& s);

}  // namespace pmfs::fsck
