#include "pmfs/meta/btree.h"

#include "pmfs/meta/checksum.h"

#include <algorithm>
#include <cstring>

namespace pmfs::meta {
namespace {

constexpr size_t kHeader = offsetof(Node, records);

void snapshot_header(Node* n) { transaction::snapshot(reinterpret_cast<std::byte*>(n), kHeader); }

// After each change of a node; the header is snapshotted. Not at the end of the transaction, as it may free the node.
void seal(const pool_base& pop, Node* n) {
  const uint64_t off = pop.pptr(n).off;
  reseal(off, &n->checksum, checksum_of(*n, off));
}

template <class E>
void insert_at(const pool_base& pop, Node* n, E* array, size_t pos, const E& e) {
  {
    transaction::together both;
    snapshot_header(n);
    transaction::snapshot(array + pos, n->count + 1 - pos);
  }
  std::memmove(array + pos + 1, array + pos, (n->count - pos) * sizeof(E));
  array[pos] = e;
  ++n->count;
  seal(pop, n);
}

template <class E>
void erase_at(const pool_base& pop, Node* n, E* array, size_t first, size_t last) {
  {
    transaction::together both;
    snapshot_header(n);
    if (last < n->count) transaction::snapshot(array + first, n->count - first);
  }
  if (last < n->count) {
    std::memmove(array + first, array + last, (n->count - last) * sizeof(E));
  }
  n->count = static_cast<uint16_t>(n->count - (last - first));
  seal(pop, n);
}

persistent_ptr<Node> new_node(pool_base& pop, uint16_t level, bool small) {
  auto ptr = make_persistent<Node>(small ? kSmallLeafBytes : sizeof(Node));
  Node* n = pop.direct(ptr);
  n->magic = Node::kMagicNode;
  n->level = level;
  n->capacity = level > 0 ? Node::kBranches : small ? Node::kSmall : Node::kRecords;
  seal(pop, n);
  pop.set_known(ptr.off);
  return ptr;
}

Record* array_of(Node* n, const Record&) { return n->records; }
Branch* array_of(Node* n, const Branch&) { return n->branches; }

// Inserts into a full node by moving its upper half to a new one, whose branch is returned. An append leaves
// the old node full: files and sorted keys grow at the end.
template <class E>
Branch insert_splitting(pool_base& pop, Node* n, size_t pos, const E& e) {
  auto right_ptr = new_node(pop, n->level, false);
  Node* right = pop.direct(right_ptr);
  E* from = array_of(n, e);
  E* to = array_of(right, e);
  size_t half = pos == n->count ? n->count : n->count / 2u;
  std::memcpy(to, from + half, (n->count - half) * sizeof(E));
  right->count = static_cast<uint16_t>(n->count - half);
  snapshot_header(n);
  n->count = static_cast<uint16_t>(half);
  if (pos <= half && right->count > 0)
    insert_at(pop, n, from, pos, e);
  else
    insert_at(pop, right, to, pos - half, e);
  seal(pop, n);
  seal(pop, right);
  return {to[0].key, right_ptr};
}

}  // namespace

namespace {
std::string owner(uint64_t ino) { return ino == 0 ? "the volume" : fmt::format("inode {}", ino); }
}  // namespace

void BTree::damaged(uint64_t ino, uint64_t off) {
  fail(EUCLEAN, "{}: the metadata is damaged: index node at {:#x} of the pool; see pmfs fsck", owner(ino), off);
}

void BTree::verify(const pool_base& pop, uint64_t ino, persistent_ptr<Node> p) {
  const Node* n = pop.direct(p);
  const uint32_t sum = checksum_of(*n, p.off);
  if (n->checksum == sum) return pop.set_known(p.off);
  fail(EIO, "{}: the index node at {:#x} of the pool is damaged (checksum {:#010x}, not {:#010x}); see pmfs fsck",
       owner(ino), p.off, n->checksum, sum);
}

size_t BTree::record_index(const Node* n, uint64_t key) {
  const Record* b = n->records;
  return static_cast<size_t>(
      std::lower_bound(b, b + n->count, key, [](const Record& r, uint64_t k) { return r.key < k; }) - b);
}

size_t BTree::child_index(const Node* n, uint64_t key) {
  const Branch* b = n->branches;
  const Branch* at = std::upper_bound(b + 1, b + n->count, key, [](uint64_t k, const Branch& r) { return k < r.key; });
  return static_cast<size_t>(at - b) - 1;
}

Node* BTree::leaf_of(uint64_t key) const {
  Node* n = node(t_->root);
  while (n->level > 0) n = node(n->branches[child_index(n, key)].child, n->level - 1);
  return n;
}

std::optional<Record> BTree::find(uint64_t key) const {
  if (empty()) return std::nullopt;
  const Node* n = leaf_of(key);
  size_t i = record_index(n, key);
  if (i == n->count || n->records[i].key != key) return std::nullopt;
  return n->records[i];
}

std::optional<Record> BTree::floor_in(const Node* n, uint64_t key) const {
  if (n->level == 0) {
    size_t i = record_index(n, key);
    if (i < n->count && n->records[i].key == key) return n->records[i];
    if (i == 0) return std::nullopt;
    return n->records[i - 1];
  }
  // A child's smallest key may be above its branch's key by now; then the answer is its left neighbour's last.
  for (size_t i = child_index(n, key) + 1; i-- > 0;)
    if (auto r = floor_in(node(n->branches[i].child, n->level - 1), key)) return r;
  return std::nullopt;
}

std::optional<Record> BTree::floor(uint64_t key) const {
  if (empty()) return std::nullopt;
  return floor_in(node(t_->root), key);
}

std::optional<Record> BTree::ceil(uint64_t key) const {
  std::optional<Record> found;
  visit(key, [&](const Record& r) {
    found = r;
    return false;
  });
  return found;
}

std::optional<Branch> BTree::insert_into(Node* n, const Record& r) {
  if (n->level == 0) {
    size_t pos = record_index(n, r.key);
    if (pos < n->count && n->records[pos].key == r.key) fail(EUCLEAN, "index key {:#x} is there already", r.key);
    if (n->count == n->capacity) return insert_splitting(pop_, n, pos, r);
    insert_at(pop_, n, n->records, pos, r);
    return std::nullopt;
  }
  size_t i = child_index(n, r.key);
  auto split = insert_into(node(n->branches[i].child, n->level - 1), r);
  if (!split) return std::nullopt;
  if (n->count == n->capacity) return insert_splitting(pop_, n, i + 1, *split);
  insert_at(pop_, n, n->branches, i + 1, *split);
  return std::nullopt;
}

void BTree::insert(const Record& r) {
  transaction::snapshot(t_);
  ++t_->count;
  if (empty()) t_->root = new_node(pop_, 0, true);
  Node* root = node(t_->root);
  if (root->capacity == Node::kSmall && root->count == Node::kSmall) {  // the small leaf becomes a full-sized one
    auto old = t_->root;
    t_->root = new_node(pop_, 0, false);
    Node* grown = node(t_->root);
    std::memcpy(grown->records, root->records, root->count * sizeof(Record));
    grown->count = root->count;
    seal(pop_, grown);
    delete_persistent(pop_, old);
    root = grown;
  }
  auto split = insert_into(root, r);
  if (!split) return;
  auto top_ptr = new_node(pop_, static_cast<uint16_t>(root->level + 1), false);
  Node* top = pop_.direct(top_ptr);
  top->branches[0] = {0, t_->root};
  top->branches[1] = *split;
  top->count = 2;
  seal(pop_, top);
  t_->root = top_ptr;
}

void BTree::snapshot_insert(uint64_t key) const {
  if (empty()) return;
  Node* n = leaf_of(key);
  if (n->count == n->capacity) return;
  const size_t pos = record_index(n, key);
  snapshot_header(n);
  transaction::snapshot(n->records + pos, n->count + 1 - pos);
}

void BTree::snapshot_erase(uint64_t key) const {
  if (empty()) return;
  Node* n = leaf_of(key);
  const size_t pos = record_index(n, key);
  snapshot_header(n);
  if (pos < n->count) transaction::snapshot(n->records + pos, n->count - pos);
}

bool BTree::erase_from(Node* n, uint64_t key) {
  if (n->level == 0) {
    size_t i = record_index(n, key);
    if (i == n->count || n->records[i].key != key) fail(EUCLEAN, "index key {:#x} is not there", key);
    erase_at(pop_, n, n->records, i, i + 1);
  } else {
    size_t i = child_index(n, key);
    auto child = n->branches[i].child;
    if (!erase_from(node(child, n->level - 1), key)) return false;
    delete_persistent(pop_, child);
    erase_at(pop_, n, n->branches, i, i + 1);
  }
  return n->count == 0;
}

void BTree::erase(uint64_t key) {
  if (empty()) fail(EUCLEAN, "index key {:#x} is not there: the index is empty", key);
  transaction::snapshot(t_);
  --t_->count;
  if (erase_from(node(t_->root), key)) {
    delete_persistent(pop_, t_->root);
    t_->root = {};
  }
  drop_root_levels();
}

void BTree::drop_root_levels() {
  while (t_->root) {
    Node* n = node(t_->root);
    if (n->level == 0 || n->count > 1) return;
    auto old = t_->root;
    t_->root = n->branches[0].child;
    delete_persistent(pop_, old);
  }
}

void BTree::replace(uint64_t key, const Record& r) {
  if (empty()) fail(EUCLEAN, "index key {:#x} is not there: the index is empty", key);
  Node* n = leaf_of(key);
  size_t i = record_index(n, key);
  if (i == n->count || n->records[i].key != key) fail(EUCLEAN, "index key {:#x} is not there", key);
  if (r.key != key && leaf_of(r.key) != n) {
    // Erased records leave their separators behind: the new key may belong to the right neighbour by now.
    erase(key);
    insert(r);
    return;
  }
  {
    transaction::together both;
    snapshot_header(n);
    transaction::snapshot(&n->records[i]);
  }
  n->records[i] = r;
  seal(pop_, n);
}

// `by` is added modulo 2^64. `lowest`: the smallest key that what is at `from` may get.
void BTree::shift_keys(Node* n, uint64_t from, uint64_t by, uint64_t lowest) {
  if (n->level == 0) {
    size_t i = record_index(n, from);
    if (i == n->count) return;
    snapshot_header(n);
    transaction::snapshot(n->records + i, n->count - i);
    for (; i < n->count; ++i) n->records[i].key += by;
    seal(pop_, n);
    return;
  }
  size_t i = child_index(n, from);
  // The child at `from` may hold smaller keys than its separator says when they are shifted down. Its left neighbour
  // begins in front of them: it would be empty, and so not be there, if it began where nothing is.
  if (i > 0 && n->branches[i].key > lowest) {
    snapshot_header(n);
    transaction::snapshot(&n->branches[i].key);
    n->branches[i].key = lowest;
    seal(pop_, n);
  }
  shift_keys(node(n->branches[i].child, n->level - 1), from, by, lowest);
  if (i + 1u == n->count) return;
  snapshot_header(n);
  transaction::snapshot(n->branches + i + 1, n->count - i - 1);
  for (++i; i < n->count; ++i) {
    n->branches[i].key += by;
    shift_keys(node(n->branches[i].child, n->level - 1), from, by, lowest);
  }
  seal(pop_, n);
}

void BTree::shift_up(uint64_t from, uint64_t by) {
  if (!empty()) shift_keys(node(t_->root), from, by, UINT64_MAX);
}

void BTree::shift_down(uint64_t from, uint64_t by) {
  if (!empty()) shift_keys(node(t_->root), from, 0 - by, from - by);
}

bool BTree::cut_from(Node* n, uint64_t lo, uint64_t hi, uint64_t node_lo, uint64_t node_hi, Cut* out) {
  if (n->level == 0) {
    size_t a = record_index(n, lo), b = record_index(n, hi);
    out->records.insert(out->records.end(), n->records + a, n->records + b);
    if (a < b) erase_at(pop_, n, n->records, a, b);
    return n->count == 0;
  }
  // Of the children that hold keys of the range only the first and the last can be left with something: the
  // ones that go are consecutive.
  size_t gone_first = n->count, gone_last = n->count;
  for (size_t i = child_index(n, lo), last = child_index(n, hi - 1); i <= last; ++i) {
    uint64_t child_lo = i == 0 ? node_lo : n->branches[i].key;
    uint64_t child_hi = i + 1 < n->count ? n->branches[i + 1].key : node_hi;
    auto child = n->branches[i].child;
    if (lo <= child_lo && child_hi <= hi)
      out->subtrees.push_back(child);
    else if (cut_from(node(child, n->level - 1), lo, hi, child_lo, child_hi, out))
      delete_persistent(pop_, child);
    else
      continue;
    if (gone_first == n->count) gone_first = i;
    gone_last = i + 1;
  }
  if (gone_first < n->count) erase_at(pop_, n, n->branches, gone_first, gone_last);
  return n->count == 0;
}

BTree::Cut BTree::cut(uint64_t lo, uint64_t hi) {
  Cut out;
  if (empty() || lo >= hi) return out;
  transaction::snapshot(t_);
  if (cut_from(node(t_->root), lo, hi, 0, UINT64_MAX, &out)) {
    delete_persistent(pop_, t_->root);
    t_->root = {};
  }
  drop_root_levels();
  return out;
}

void BTree::forget(uint64_t records) {
  transaction::snapshot(t_);
  t_->count -= records;
}

bool BTree::pop_leaf(pool_base& pop, persistent_ptr<Node> ptr, std::vector<Record>* out) {
  Node* n = node(pop, 0, ptr);
  if (n->count == 0) damaged(0, ptr.off);
  if (n->level == 0) {
    out->insert(out->end(), n->records, n->records + n->count);
    delete_persistent(pop, ptr);
    return true;
  }
  node(pop, 0, n->branches[n->count - 1].child, n->level - 1);  // checked
  if (!pop_leaf(pop, n->branches[n->count - 1].child, out)) return false;
  if (n->count == 1) {
    delete_persistent(pop, ptr);
    return true;
  }
  snapshot_header(n);
  --n->count;
  seal(pop, n);
  return false;
}

bool BTree::plausible(const pool_base& pop, persistent_ptr<Node> ptr, uint64_t pool_bytes) {
  if (ptr.off == 0 || ptr.off % 8 != 0 || ptr.off + kSmallLeafBytes > pool_bytes) return false;
  const Node* n = pop.direct(ptr);
  if (n->magic != Node::kMagicNode || n->count == 0 || n->count > n->capacity) return false;
  if (n->level > 0) return n->capacity == Node::kBranches && ptr.off + sizeof(Node) <= pool_bytes;
  return n->capacity == Node::kSmall || (n->capacity == Node::kRecords && ptr.off + sizeof(Node) <= pool_bytes);
}

bool BTree::check_node(const pool_base& pop, persistent_ptr<Node> ptr, uint64_t lo, uint64_t hi, uint64_t pool_bytes,
                       const std::string& what, uint64_t* records, std::vector<std::string>* findings) {
  if (!plausible(pop, ptr, pool_bytes)) {
    findings->push_back(fmt::format("{}: index node at {:#x} is damaged", what, ptr.off));
    return false;
  }
  const Node* n = pop.direct(ptr);
  bool ok = true;
  if (n->checksum != checksum_of(*n, ptr.off)) {
    findings->push_back(fmt::format("{}: index node at {:#x}: the checksum does not match", what, ptr.off));
    ok = false;
  }
  for (size_t i = 0; i < n->count; ++i) {
    uint64_t key = n->level == 0 ? n->records[i].key : i == 0 ? lo : n->branches[i].key;
    uint64_t next = i + 1 == n->count ? hi : n->level == 0 ? n->records[i + 1].key : n->branches[i + 1].key;
    if (key < lo || key >= next) {
      findings->push_back(fmt::format("{}: index key {:#x} is out of order", what, key));
      ok = false;
    }
    if (n->level == 0) {
      ++*records;
      continue;
    }
    auto child = n->branches[i].child;
    if (plausible(pop, child, pool_bytes) && pop.direct(child)->level + 1 != n->level) {  // no way down a cycle
      findings->push_back(fmt::format("{}: index node at {:#x} is of the wrong level", what, child.off));
      ok = false;
    } else {
      ok = check_node(pop, child, key, next, pool_bytes, what, records, findings) && ok;
    }
  }
  return ok;
}

bool BTree::check_subtree(pool_base& pop, persistent_ptr<Node> n, const std::string& what, uint64_t pool_bytes,
                          std::vector<std::string>* findings) {
  uint64_t records = 0;
  return check_node(pop, n, 0, UINT64_MAX, pool_bytes, what, &records, findings);
}

bool BTree::check(const std::string& what, uint64_t pool_bytes, std::vector<std::string>* findings) const {
  uint64_t records = 0;
  if (t_->root && !check_node(pop_, t_->root, 0, UINT64_MAX, pool_bytes, what, &records, findings)) return false;
  if (records == t_->count) return true;
  findings->push_back(fmt::format("{}: {} index records, but {} counted", what, records, t_->count));
  return false;
}

}  // namespace pmfs::meta
