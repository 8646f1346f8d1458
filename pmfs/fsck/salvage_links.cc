// Names: each leads to an inode; each directory has one and is reached from the root; what has none goes to lost+found.
#include <sys/stat.h>

#include <deque>

#include "pmfs/fsck/salvage_impl.h"

namespace pmfs::fsck {
namespace {

constexpr uint64_t kRoot = 1;
constexpr const char* kLostFound = "lost+found";

class Links {
 public:
  explicit Links(State& s) : s_(s), inodes_(s.out.saved.inodes) {}

  void run() {
    take_entries();
    one_name_per_directory();
    reach();
    find_nameless();
    count_links();
    name_findings();
  }

 private:
  bool dir(uint64_t n) const {
    auto it = inodes_.find(n);
    return it != inodes_.end() && S_ISDIR(it->second.media.mode);
  }

  void take_entries() {
    for (const Entry& e : s_.entries) {
      if (!dir(e.dir)) continue;  // was taken for a directory and is none after all
      if (!inodes_.contains(e.ino)) {
        s_.add("name", e.dir, std::nullopt, "entry \"{}\" is for inode {}, which does not exist; it is lost", e.name,
               e.ino);
        ++s_.out.saved.lost;
        continue;
      }
      if (e.ino == kRoot) {
        s_.add("name", e.dir, std::nullopt, "entry \"{}\" is for the root directory; it is taken away", e.name);
        continue;
      }
      if (!inodes_[e.dir].names.emplace(e.name, e.ino).second) {
        s_.add("name", e.dir, std::nullopt, "\"{}\" is there twice; the second, for inode {}, is taken away", e.name,
               e.ino);
        ++s_.out.saved.lost;
      }
    }
  }

  void one_name_per_directory() {
    std::map<uint64_t, std::vector<std::pair<uint64_t, std::string>>> places;
    for (const auto& [n, i] : inodes_)
      for (const auto& [name, ino] : i.names)
        if (dir(ino)) places[ino].push_back({n, name});
    for (auto& [ino, all] : places) {
      size_t keep = 0;
      for (size_t k = 0; k < all.size(); ++k)
        if (all[k].first == inodes_[ino].media.parent) keep = k;
      for (size_t k = 0; k < all.size(); ++k) {
        if (k == keep) continue;
        s_.add("name", all[k].first, std::nullopt, "\"{}\" is a second name of directory {}; it is taken away",
               all[k].second, ino);
        inodes_[all[k].first].names.erase(all[k].second);
      }
      if (inodes_[ino].media.parent != all[keep].first) {
        s_.add("directory", ino, std::nullopt, "its parent is {}, but it is in directory {}", inodes_[ino].media.parent,
               all[keep].first);
        inodes_[ino].media.parent = all[keep].first;
      }
    }
  }

  void walk(uint64_t from) {
    std::deque<uint64_t> todo{from};
    reached_.insert(from);
    while (!todo.empty()) {
      uint64_t n = todo.front();
      todo.pop_front();
      for (const auto& [name, ino] : inodes_[n].names)
        if (dir(ino) && reached_.insert(ino).second) todo.push_back(ino);
    }
  }

  // Directories that the root does not lead to: first those that nothing leads to, with all below them; what is left
  // goes round in circles and is cut open.
  void reach() {
    walk(kRoot);
    for (bool circles : {false, true}) {
      std::vector<uint64_t> lost;
      for (const auto& [n, i] : inodes_)
        if (dir(n)) lost.push_back(n);
      for (uint64_t n : lost) {
        if (reached_.contains(n)) continue;
        bool named = false;
        for (auto& [p, i] : inodes_)
          for (auto it = i.names.begin(); it != i.names.end();) {
            bool here = it->second == n;
            named = named || here;
            it = here && circles ? i.names.erase(it) : std::next(it);
          }
        if (named && !circles) continue;
        s_.add("directory", n, std::nullopt, "can't be reached from the root; goes to {}", kLostFound);
        adopt(n);
        walk(n);
      }
    }
  }

  void find_nameless() {
    std::set<uint64_t> named;
    for (const auto& [n, i] : inodes_)
      for (const auto& [name, ino] : i.names) named.insert(ino);
    std::vector<uint64_t> lost;
    for (const auto& [n, i] : inodes_)
      if (!dir(n) && !named.contains(n)) lost.push_back(n);
    for (uint64_t n : lost) {
      s_.add("inode", n, std::nullopt, "neither a name nor on the orphan list; goes to {}", kLostFound);
      adopt(n);
    }
  }

  uint64_t lost_found() {
    if (lost_found_ != 0) return lost_found_;
    std::string name = kLostFound;
    for (int k = 1;; ++k) {
      auto it = inodes_[kRoot].names.find(name);
      if (it == inodes_[kRoot].names.end()) break;
      if (dir(it->second)) return lost_found_ = it->second;
      name = fmt::format("{}.{}", kLostFound, k);
    }
    uint64_t n = kRoot + 1;
    while (inodes_.contains(n)) ++n;
    SavedInode& i = inodes_[n];
    i.media.mode = S_IFDIR | 0700;
    i.media.state = meta::InodeMedia::kLive;
    i.media.generation = UINT32_MAX;  // not one that the number had before
    i.media.parent = kRoot;
    i.media.nlink = 2;
    i.media.atime_ns = i.media.mtime_ns = i.media.ctime_ns = i.media.btime_ns = inodes_[kRoot].media.mtime_ns;
    made_ = n;
    inodes_[kRoot].names[name] = n;
    reached_.insert(n);
    return lost_found_ = n;
  }

  void adopt(uint64_t n) {
    uint64_t home = lost_found();
    std::string name = fmt::format("#{}", n);
    while (!inodes_[home].names.emplace(name, n).second) name += "_";
    if (dir(n)) inodes_[n].media.parent = home;
    adopted_.insert(n);
  }

  void count_links() {
    std::map<uint64_t, uint32_t> names, subdirs;
    for (const auto& [n, i] : inodes_)
      for (const auto& [name, ino] : i.names) {
        ++names[ino];
        if (dir(ino)) ++subdirs[n];
      }
    for (auto& [n, i] : inodes_) {
      uint32_t right = dir(n) ? 2 + subdirs[n] : names[n];
      bool ours = n == made_ || n == lost_found_ || adopted_.contains(n) || (n == kRoot && made_ != 0);
      if (i.media.nlink != right && !ours)
        s_.add("link count", n, std::nullopt, "nlink is {}, should be {}", i.media.nlink, right);
      i.media.nlink = right;
    }
  }

  void name_findings() {
    std::map<uint64_t, std::string> path{{kRoot, "/"}};
    std::deque<uint64_t> todo{kRoot};
    while (!todo.empty()) {
      uint64_t n = todo.front();
      todo.pop_front();
      for (const auto& [name, ino] : inodes_[n].names)
        if (path.emplace(ino, (n == kRoot ? "/" : path[n] + "/") + name).second && dir(ino)) todo.push_back(ino);
    }
    s_.paths = std::move(path);
  }

  State& s_;
  std::map<uint64_t, SavedInode>& inodes_;
  std::set<uint64_t> reached_, adopted_;
  uint64_t lost_found_ = 0, made_ = 0;
};

}  // namespace

void resolve_links(State& s) { Links(s).run(); }

}  // namespace pmfs::fsck
