#include "pmfs/meta/inode_table.h"

#include <sys/stat.h>

namespace pmfs::meta {
namespace {

uint64_t index_at(uint64_t chunk, int level) { return (chunk >> (9 * level)) % InodePage::kFanout; }

}  // namespace

void InodeTable::format() {
  InodeTableMedia& t = m_.root->inodes;
  t.top = make_persistent<InodePage>();
  t.next = to_u64(kRootIno);
  Ino ino = allocate(S_IFDIR | 0755, 0, 0);
  InodeMedia* root = get(ino);
  root->nlink = 2;
  root->parent = to_u64(kRootIno);
}

persistent_ptr<InodePage>* InodeTable::leaf_entry(uint64_t n) const {
  uint64_t chunk = n / InodeChunk::kInodes;
  auto page = m_.root->inodes.top;
  for (int level = 2;; --level) {
    auto* entry = &m_.pop.direct(page)->down[index_at(chunk, level)];
    if (level == 0) return entry;
    if (!*entry) return nullptr;
    page = *entry;
  }
}

InodeMedia* InodeTable::slot(uint64_t n) const {
  if (n == 0 || n >= m_.root->inodes.next) return nullptr;
  const persistent_ptr<InodePage>* entry = leaf_entry(n);
  if (entry == nullptr || !*entry) fail(EUCLEAN, "the metadata is damaged: inode {} is missing; see pmfs fsck", n);
  persistent_ptr<InodeChunk> chunk{entry->off};
  return &m_.pop.direct(chunk)->inode[n % InodeChunk::kInodes];
}

void InodeTable::make_slot(uint64_t n) {
  uint64_t chunk = n / InodeChunk::kInodes;
  auto page = m_.root->inodes.top;
  for (int level = 2; level >= 0; --level) {
    auto* entry = &m_.pop.direct(page)->down[index_at(chunk, level)];
    if (!*entry) {
      transaction::snapshot(entry);
      entry->off = level > 0 ? make_persistent<InodePage>().off : make_persistent<InodeChunk>().off;
    }
    page = *entry;
  }
}

InodeMedia* InodeTable::known(uint64_t n) const {
  InodeMedia* i = slot(n);
  if (i == nullptr || m_.pop.known(m_.pop.pptr(i).off)) return i;
  if (const uint32_t sum = checksum_of(*i); sum != i->checksum)
    fail(EIO, "inode {}: its record is damaged (checksum {:#010x}, not {:#010x}); see pmfs fsck", n, i->checksum, sum);
  if (i->ino != n) fail(EIO, "inode {}: its record is the one of inode {}; see pmfs fsck", n, i->ino);
  m_.pop.set_known(m_.pop.pptr(i).off);
  return i;
}

InodeMedia* InodeTable::find(Ino ino) const {
  InodeMedia* i = known(to_u64(ino));
  return i != nullptr && i->state != InodeMedia::kFree ? i : nullptr;
}

InodeMedia* InodeTable::get(Ino ino) const {
  InodeMedia* i = find(ino);
  if (i == nullptr) fail(ENOENT, "inode {} does not exist", to_u64(ino));
  return i;
}

void InodeTable::snapshot_next() {
  InodeTableMedia& t = m_.root->inodes;
  transaction::snapshot(&t);
  if (t.free == 0) return;
  if (InodeMedia* i = known(t.free)) snapshot_all(i);
}

Ino InodeTable::allocate(uint32_t mode, uint32_t uid, uint32_t gid) {
  InodeTableMedia& t = m_.root->inodes;
  uint64_t n = t.free;
  InodeMedia* i;
  if (n != 0) {
    i = known(n);
    if (i == nullptr || i->state != InodeMedia::kFree)
      fail(EUCLEAN, "the metadata is damaged: inode {} is on the list of free ones; see pmfs fsck", n);
    t.free = i->list_next;
  } else {
    n = t.next;
    if (n >= kMaxInodes) fail(ENOSPC, "the volume has {} inodes, which is the most there can be", kMaxInodes);
    make_slot(n);
    t.next = n + 1;
    i = slot(n);
    m_.pop.set_known(m_.pop.pptr(i).off);
  }
  t.used += 1;
  snapshot_all(i);
  const uint64_t generation = i->generation + 1;
  overwrite(i, {});
  i->ino = n;
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
    InodeMedia* n = known(i->list_next);
    snapshot_inode(n);
    n->list_prev = to_u64(ino);
  }
  m_.root->orphan_head = to_u64(ino);
}

void InodeTable::drop_orphan(Ino ino) {
  InodeMedia* i = get(ino);
  if (i->list_next != 0) {
    InodeMedia* n = known(i->list_next);
    snapshot_inode(n);
    n->list_prev = i->list_prev;
  }
  if (i->list_prev != 0) {
    InodeMedia* n = known(i->list_prev);
    snapshot_inode(n);
    n->list_next = i->list_next;
  } else {
    m_.root->orphan_head = i->list_next;
  }
}

std::vector<Ino> InodeTable::orphans() const {
  std::vector<Ino> out;
  for (uint64_t n = m_.root->orphan_head; n != 0; n = known(n)->list_next) {
    if (n >= next() || known(n)->state != InodeMedia::kOrphan || out.size() >= next())
      fail(EUCLEAN, "the metadata is damaged: inode {} is on the orphan list; see pmfs fsck", n);
    out.push_back(Ino{n});
  }
  return out;
}

}  // namespace pmfs::meta
