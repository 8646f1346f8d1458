// The persistent B+tree of the format: 64-bit keys, 16 bytes of value. An extent map is one (by pgoff), a
// directory is one (by name hash).
//
// Nodes are freed when empty, not merged when half empty: deletions touch one leaf, and every range of keys
// can be cut out whole (cut()) in a transaction of O(height) size, whatever hangs below.
//
// Not thread-safe: readers and one writer, by the store's meta mutex. Members that change something must be
// called in a transaction.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pmfs/meta/layout.h"

namespace pmfs::meta {

class BTree {
 public:
  // What cut() took out: records of the two leaves at the edges, and subtrees that were covered wholly. The
  // subtrees belong to the caller now.
  struct Cut {
    std::vector<Record> records;
    std::vector<persistent_ptr<Node>> subtrees;
  };

  // `ino`: whose tree it is, for errors; 0: the volume's. A node whose checksum is wrong is EIO.
  BTree(pool_base& pop, Tree* t, uint64_t ino) : pop_(pop), t_(t), ino_(ino) {}

  bool empty() const { return !t_->root; }
  uint64_t size() const { return t_->count; }

  std::optional<Record> find(uint64_t key) const;
  std::optional<Record> floor(uint64_t key) const;  // the largest key <= `key`
  std::optional<Record> ceil(uint64_t key) const;   // the smallest key >= `key`
  // fn(const Record&) -> bool, for keys >= from in order, while it returns true.
  template <class F>
  void visit(uint64_t from, F&& fn) const {
    if (t_->root) visit_node(pop_, ino_, node(t_->root), from, fn);
  }
  template <class F>
  static void visit_subtree(const pool_base& pop, persistent_ptr<Node> n, F&& fn) {
    visit_node(pop, 0, node(pop, 0, n), 0, fn);
  }

  // What insert() and erase() store to if no node is made or freed; `*t_` not.
  void snapshot_insert(uint64_t key) const;
  void snapshot_erase(uint64_t key) const;
  // `*t_` is snapshotted by these.
  void insert(const Record& r);  // its key must be new
  void erase(uint64_t key);      // must be there
  // r.key may be larger than `key`, but not as large as the next one's.
  void replace(uint64_t key, const Record& r);
  // Every key at `from` and above becomes so much larger; none may overflow. A transaction as long as what is shifted.
  void shift_up(uint64_t from, uint64_t by);
  // Smaller: no key may be in [from - by, from).
  void shift_down(uint64_t from, uint64_t by);
  Cut cut(uint64_t lo, uint64_t hi);  // keys in [lo, hi); count() is left for the caller: forget()
  void forget(uint64_t records);      // that cut() handed out

  // Takes the records of the last leaf of a subtree out, frees it and what became empty above it; true when
  // nothing is left of the subtree.
  static bool pop_leaf(pool_base& pop, persistent_ptr<Node> n, std::vector<Record>* out);

  // Appends a sentence per damage, false if there was any. Safe to call on a damaged tree.
  bool check(const std::string& what, uint64_t pool_bytes, std::vector<std::string>* findings) const;
  static bool check_subtree(pool_base& pop, persistent_ptr<Node> n, const std::string& what, uint64_t pool_bytes,
                            std::vector<std::string>* findings);
  static bool plausible(const pool_base& pop, persistent_ptr<Node> n, uint64_t pool_bytes);
  // By visit(), in this thread: what a test of the cost of a lookup looks at.
  static uint64_t& nodes_visited() {
    thread_local uint64_t n = 0;
    return n;
  }

 private:
  // A node as it must be, or EUCLEAN: damage must not lead out of an array, nor round in circles.
  static Node* node(const pool_base& pop, uint64_t ino, persistent_ptr<Node> p, int level = -1) {
    Node* n = pop.direct(p);
    if (!pop.known(p.off)) [[unlikely]] verify(pop, ino, p);
    bool ok = n->magic == Node::kMagicNode && n->count <= n->capacity &&
              n->capacity <= (n->level > 0 ? Node::kBranches : Node::kRecords) && (level < 0 || n->level == level);
    if (!ok) [[unlikely]] damaged(ino, p.off);
    return n;
  }
  Node* node(persistent_ptr<Node> p, int level = -1) const { return node(pop_, ino_, p, level); }
  static void verify(const pool_base& pop, uint64_t ino, persistent_ptr<Node> p);  // EIO: a wrong checksum
  [[noreturn]] static void damaged(uint64_t ino, uint64_t off);
  static size_t record_index(const Node* n, uint64_t key);  // first record with a key >= `key`
  static size_t child_index(const Node* n, uint64_t key);   // the child that holds `key`

  template <class F>
  static bool visit_node(const pool_base& pop, uint64_t ino, const Node* n, uint64_t from, F& fn) {
    ++nodes_visited();
    if (n->level == 0) {
      for (size_t i = record_index(n, from); i < n->count; ++i)
        if (!fn(n->records[i])) return false;
      return true;
    }
    for (size_t i = child_index(n, from); i < n->count; ++i)
      if (!visit_node(pop, ino, node(pop, ino, n->branches[i].child, n->level - 1), from, fn)) return false;
    return true;
  }
  Node* leaf_of(uint64_t key) const;
  std::optional<Record> floor_in(const Node* n, uint64_t key) const;
  std::optional<Branch> insert_into(Node* n, const Record& r);
  bool erase_from(Node* n, uint64_t key);
  void shift_keys(Node* n, uint64_t from, uint64_t by, uint64_t lowest);
  bool cut_from(Node* n, uint64_t lo, uint64_t hi, uint64_t node_lo, uint64_t node_hi, Cut* out);
  void drop_root_levels();
  static bool check_node(const pool_base& pop, persistent_ptr<Node> n, uint64_t lo, uint64_t hi, uint64_t pool_bytes,
                         const std::string& what, uint64_t* records, std::vector<std::string>* findings);

  pool_base& pop_;
  Tree* t_;
  uint64_t ino_;
};

}  // namespace pmfs::meta
