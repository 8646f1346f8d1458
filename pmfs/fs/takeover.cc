// Recovery at mount, and what is kept for clients of a manager that died until they have come back.
//
//   mount  which clients of former managers live (their locks) -> deferred frees: zapped, then freed, or kept for those of
//          the clients that map blocks directly -> if there are
//          any: all free blocks zapped, before the first of them is handed out -> unlinked files are freed, or, with
//          living clients and VolumeOptions::grace, kept for
//   grace  in which a client hands over its files and mappings (server/reattach.cc); end_grace() frees the rest
//
// Clients that live keep their PTEs over all that. On a block of a file they are right: a store through one is a store
// to the file. Free blocks are what the dead manager had as reservations and zero blocks: nobody has a PTE there when
// the mount is done. Only moving a file's blocks (shift.cc) must wait for such a client.

#include <sys/stat.h>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/base/sys.h"
#include "pmfs/fs/volume.h"

namespace pmfs {

void MountedVolume::recover() {
  const std::vector<ClientLocks::Held> alive = locks_->all_held();
  {
    MutexLock l(strangers_mutex_);
    for (const ClientLocks::Held& h : alive) {
      const bool direct = !gated() || h.direct;  // an acked region can't take a PTE from anybody, whatever it was served as before
      strangers_.push_back({h.byte, direct, nullptr, sys().monotonic_ns()});
      direct_strangers_.fetch_add(direct ? 1 : 0);
    }
  }
  for (const meta::Removed& r : store_->deferred()) {
    // A client of the dead manager may still have PTEs on them.
    if (direct_strangers_.load() != 0) {  // only the death or the answer of those says that they have let go
      for (Extent e : r.extents) region_->zap_free(e);
      keep_for_strangers(quarantine_.begin(Ino{}, [this, r] { retire({r.id, r.extents, {}}); }));
      continue;
    }
    for (Extent e : r.extents) region_->zap(e);
    PMFS_PAUSE_POINT("mount:zapped");
    store_->finish_free(r.id);
  }
  // Mapped directly: only blocks that had become their file's for good ever were.
  if (gated() && !alive.empty() && !store_->superblock().was_clean && options_.zap_at_mount) zap_free_blocks();
  in_grace_.store(options_.grace && !alive.empty());
  PMFS_PAUSE_POINT("mount:free_zapped");
  for (Ino ino : store_->orphans())
    if (!S_ISREG(store_->getattr(ino).mode)) store_->free_inode(ino);  // nobody has a directory open
  if (!in_grace()) remove_orphans();
}

// As many system calls as there are free extents; the kernel's work is by pages that are present.
void MountedVolume::zap_free_blocks() {
  constexpr size_t kBatch = 256;
  for (Pfn from(0);;) {
    auto free = store_->free_extents(from, kBatch);
    if (free.empty()) return;
    for (Extent e : free) region_->zap_free(e);
    from = free.back().end();
  }
}

void MountedVolume::remove_orphans() {
  for (Ino ino : store_->orphans()) {
    try {
      auto inode = inodes_.get(ino);
      inodes_.put(*inode);  // evicts, if nobody has it: no link is left
    } catch (const Error& e) {
      if (e.err() != ENOENT && e.err() != EISDIR && e.err() != ELOOP) throw;  // somebody has just freed it
    }
  }
}

size_t MountedVolume::strangers() {
  std::vector<std::shared_ptr<const void>> due;  // dropped outside the lock
  MutexLock l(strangers_mutex_);
  std::erase_if(strangers_, [this](const Stranger& s) {
    const bool gone = !locks_->held(s.life);
    if (gone && s.direct) direct_strangers_.fetch_sub(1);
    return gone;
  });
  if (direct_strangers_.load() == 0) due.swap(strangers_keep_);
  return strangers_.size();
}

void MountedVolume::end_grace() {
  if (!in_grace_.exchange(false)) return;
  remove_orphans();  // one whose eviction saw the grace period is on the list
}

std::shared_ptr<Inode> MountedVolume::reattach(Ino ino, uint64_t generation) {
  std::shared_ptr<Inode> i;
  try {
    i = inodes_.get(ino);
  } catch (const Error& e) {
    if (e.err() != ENOENT && e.err() != EISDIR && e.err() != ELOOP) throw;
  }
  if (i) {
    if (store_->getattr(ino).generation == generation) return i;
    inodes_.put(*i);
  }
  fail(ESTALE, "inode {}: the file of generation {} is gone", to_u64(ino), generation);
}

}  // namespace pmfs
