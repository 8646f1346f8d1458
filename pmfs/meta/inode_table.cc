#include "pmfs/meta/inode_table.h"

#include <sys/stat.h>

namespace pmfs::meta {

void InodeTable::format() {
  InodeTableMedia& t = m_.root->inodes;
  t.top = make_persistent<InodeTop>();
  t.next = to_u64(kRootIno);
  Ino ino = allocate(S_IFDIR | 0755, 0, 0);
  InodeMedia* root = get(ino);
  root->nlink = 2;
  root->parent = to_u64(kRootIno);
}

InodeMedia* InodeTable::slot(uint64_t n) const {
  if (n == 0 || n >= m_.root->inodes.next) return nullptr;
  uint64_t chunk = n / InodeChunk::kInodes;
  auto page = m_.pop.direct(m_.root->inodes.top)->page[chunk / InodePage::kChunks];
  auto c = m_.pop.direct(page)->chunk[chunk % InodePage::kChunks];
  return &m_.pop.direct(c)->inode[n % InodeChunk::kInodes];
}

InodeMedia* InodeTable::find(Ino ino) const {
  InodeMedia* i = slot(to_u64(ino));
  return i != nullptr && i->state != InodeMedia::kFree ? i : nullptr;
}

InodeMedia* InodeTable::get(Ino ino) const {
  InodeMedia* i = find(ino);
  if (i == nullptr) fail(ENOENT, "inode {} does not exist", to_u64(ino));
  return i;
}

Ino InodeTable::allocate(uint32_t mode, uint32_t uid, uint32_t gid) {
  InodeTableMedia& t = m_.root->inodes;
  uint64_t n = t.free;
  InodeMedia* i;
  if (n != 0) {
    i = slot(n);
    t.free = i->list_next;
  } else {
    n = t.next;
    if (n >= kMaxInodes) fail(ENOSPC, "the volume has {} inodes, which is the most there can be", kMaxInodes);
    uint64_t chunk = n / InodeChunk::kInodes;
    auto* page = &m_.pop.direct(t.top)->page[chunk / InodePage::kChunks];
    if (!*page) {
      transaction::snapshot(page);
      *page = make_persistent<InodePage>();
    }
    auto* c = &m_.pop.direct(*page)->chunk[chunk % InodePage::kChunks];
    if (!*c) {
      transaction::snapshot(c);
      *c = make_persistent<InodeChunk>();
    }
    t.next = n + 1;
    i = slot(n);
  }
  t.used += 1;
  transaction::snapshot(i);
  uint64_t generation = i->generation + 1;
  *i = InodeMedia{};
  i->generation = generation;
  i->state = InodeMedia::kLive;
  i->mode = mode;
  i->uid = uid;
  i->gid = gid;
  i->atime_ns = i->mtime_ns = i->ctime_ns = i->btime_ns = now_ns();
  return Ino{n};
}

void InodeTable::free(Ino ino) {
  InodeMedia* i = get(ino);
  snapshot_inode(i);
  i->state = InodeMedia::kFree;
  i->list_prev = 0;
  i->list_next = m_.root->inodes.free;
  m_.root->inodes.free = to_u64(ino);
  m_.root->inodes.used -= 1;
}

void InodeTable::make_orphan(Ino ino) {
  InodeMedia* i = get(ino);
  snapshot_inode(i);
  i->state = InodeMedia::kOrphan;
  i->list_prev = 0;
  i->list_next = m_.root->orphan_head;
  if (i->list_next != 0) {
    InodeMedia* n = slot(i->list_next);
    transaction::snapshot(&n->list_prev);
    n->list_prev = to_u64(ino);
  }
  m_.root->orphan_head = to_u64(ino);
}

void InodeTable::drop_orphan(Ino ino) {
  InodeMedia* i = get(ino);
  if (i->list_next != 0) {
    InodeMedia* n = slot(i->list_next);
    transaction::snapshot(&n->list_prev);
    n->list_prev = i->list_prev;
  }
  if (i->list_prev != 0) {
    InodeMedia* n = slot(i->list_prev);
    transaction::snapshot(&n->list_next);
    n->list_next = i->list_next;
  } else {
    m_.root->orphan_head = i->list_next;
  }
}

std::vector<Ino> InodeTable::orphans() const {
  std::vector<Ino> out;
  for (uint64_t n = m_.root->orphan_head; n != 0; n = slot(n)->list_next) out.push_back(Ino{n});
  return out;
}

}  // namespace pmfs::meta
