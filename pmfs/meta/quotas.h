// What users and projects have, and the most they may have. Only those with a limit are counted: a volume without
// quotas pays nothing. The index by id in DRAM is rebuilt at open.
//
// Not thread-safe (meta mutex). Members that change something must be called in a transaction; after one that added or
// removed a record, committed() brings the index up to date.
// Sources: quotactl(2), fs/quota/dquot.c dquot_alloc_space, dquot_transfer; the hard limits only.
#pragma once

#include <unordered_map>
#include <vector>

#include "pmfs/meta/btree.h"
#include "pmfs/meta/media.h"

namespace pmfs::meta {

class Quotas {
 public:
  explicit Quotas(Media& m) : m_(m), tree_(m.pop, &m.root->quotas, 0) {}
  // Reads the index; EUCLEAN if the records are damaged.
  void open();

  // The inode has so much more, or less, than before. EDQUOT: more than a limit allows.
  void charge(const InodeMedia* i, int64_t blocks, int64_t inodes) {
    if (!index_.empty()) charge_all(i->uid, i->project, blocks, inodes, true);
  }
  void blocks_changed(const InodeMedia* i, uint64_t before) {
    if (i->blocks != before) charge(i, static_cast<int64_t>(i->blocks - before), 0);
  }
  // All of the inode is another user's or project's from now on. Never refused: only the privileged may do it.
  void transfer(const InodeMedia* i, uint32_t uid, uint32_t project);

  // Limits; usage is what `used` says if the id was not counted so far. Both 0: it is no longer counted.
  void set(const Quota& q);
  bool counted(QuotaKind kind, uint32_t id) const { return index_.contains(key(kind, id)); }
  void committed(QuotaKind kind, uint32_t id);
  std::vector<Quota> all() const;
  bool check(std::vector<std::string>* findings) const;  // of the records, not of the usage

 private:
  static uint64_t key(QuotaKind kind, uint32_t id) { return uint64_t{static_cast<uint8_t>(kind)} << 32 | id; }
  void charge_all(uint32_t uid, uint32_t project, int64_t blocks, int64_t inodes, bool limited);
  void charge_one(QuotaKind kind, uint32_t id, int64_t blocks, int64_t inodes, bool limited);
  Media& m_;
  BTree tree_;
  std::unordered_map<uint64_t, QuotaMedia*> index_;
};

}  // namespace pmfs::meta
