// A B+tree that may be damaged: what is below a damaged node is lost, the rest is read.
#include "pmfs/fsck/salvage_impl.h"
#include "pmfs/meta/checksum.h"

namespace pmfs::fsck {
namespace {

using meta::Node;

struct Walk {
  State& s;
  uint64_t ino;
  const std::function<void(const meta::Record&)>& fn;
  uint64_t records = 0;
  bool whole = true;

  void damaged(uint64_t off, const char* why) {
    s.add("index", ino, std::nullopt, "index node at {:#x} of the pool {}; what it led to is lost", off, why);
    ++s.out.saved.lost;
    whole = false;
  }

  // `level`: of the parent, less one; SIZE_MAX: whatever it is.
  void node(uint64_t off, size_t level, uint64_t lo, uint64_t hi) {
    const Node* n = s.pool.at<Node>(off, meta::kSmallLeafBytes);
    if (n == nullptr) return damaged(off, "is outside of the pool");
    bool small = n->level == 0 && n->capacity == Node::kSmall;
    uint16_t capacity = small ? Node::kSmall : n->level == 0 ? Node::kRecords : Node::kBranches;
    if (n->magic != Node::kMagicNode || n->capacity != capacity || n->count == 0 || n->count > capacity ||
        (level != SIZE_MAX && n->level != level) || n->level > 20) {
      return damaged(off, "is damaged");
    }
    if (s.object<Node>(off, small ? meta::kSmallLeafBytes : sizeof(Node)) == nullptr) {
      return damaged(off, "is outside of the pool, or in another index too");
    }
    if (n->checksum != meta::checksum_of(*n, off)) {
      s.add("index", ino, std::nullopt,
            "index node at {:#x} of the pool: the checksum does not match; what can be read of it is kept", off);
    }
    uint64_t previous = lo;
    for (size_t i = 0; i < n->count; ++i) {
      uint64_t key = n->level == 0 ? n->records[i].key : i == 0 ? lo : n->branches[i].key;
      bool ordered = key < hi && (i == 0 ? key >= lo : key > previous);
      if (!ordered) {
        s.add("index", ino, std::nullopt, "index key {:#x} in the node at {:#x} is out of order", key, off);
        whole = false;
      }
      previous = key;
      if (n->level == 0) {
        ++records;
        fn(n->records[i]);
      } else {
        uint64_t next = i + 1 < n->count ? n->branches[i + 1].key : hi;
        node(n->branches[i].child.off, n->level - 1u, ordered ? key : 0, next > key ? next : UINT64_MAX);
      }
    }
  }
};

}  // namespace

bool read_subtree(State& s, uint64_t node, uint64_t ino, const std::function<void(const meta::Record&)>& fn) {
  Walk w{s, ino, fn};
  w.node(node, SIZE_MAX, 0, UINT64_MAX);
  return w.whole;
}

bool read_tree(State& s, const meta::Tree& t, uint64_t ino, const std::function<void(const meta::Record&)>& fn) {
  Walk w{s, ino, fn};
  if (t.root) w.node(t.root.off, SIZE_MAX, 0, UINT64_MAX);
  if (w.whole && w.records != t.count) {
    s.add("index", ino, std::nullopt, "{} index records, but {} counted", w.records, t.count);
  }
  return w.whole;
}

}  // namespace pmfs::fsck
