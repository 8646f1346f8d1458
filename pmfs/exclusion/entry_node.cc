#include "pmfs/exclusion/entry_node.h"

#include <memory>

namespace pmfs::exclusion {

Slot& InnerNode::make_rest(unsigned i, Bytes& bytes) {
  auto fresh = std::make_unique<Rest>();
  Rest* expected = nullptr;
  if (rest.compare_exchange_strong(expected, fresh.get())) {
    fresh.release();
    bytes.fetch_add(sizeof(Rest), std::memory_order_relaxed);
  }
  return *find(i);
}

Node* Node::make(unsigned level, Bytes& bytes) {
  Node* n = level == kLeaf ? static_cast<Node*>(new LeafNode) : new InnerNode(level);
  bytes.fetch_add(level == kLeaf ? sizeof(LeafNode) : sizeof(InnerNode), std::memory_order_relaxed);
  return n;
}

void Node::destroy(Node* n) {
  if (n->level == kLeaf) {
    delete static_cast<LeafNode*>(n);
    return;
  }
  for (unsigned i = 0; i < kSlots; ++i) {
    Slot* s = n->find(i);
    if (!s) break;
    if (uint64_t w = s->load(); is_child(w)) destroy(child_of(w));
  }
  delete static_cast<InnerNode*>(n);
}

Node* descend(Slot& slot, unsigned child_level, Bytes& bytes) {
  uint64_t w = slot.load();
  if (w == 0) {
    Bytes made{0};
    Node* fresh = Node::make(child_level, made);
    if (slot.compare_exchange_strong(w, word_of(fresh))) {
      bytes.fetch_add(made.load(), std::memory_order_relaxed);
      return fresh;
    }
    Node::destroy(fresh);  // somebody was faster; w is theirs
  }
  return is_child(w) ? child_of(w) : nullptr;
}

}  // namespace pmfs::exclusion
