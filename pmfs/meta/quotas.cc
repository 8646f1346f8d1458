#include "pmfs/meta/quotas.h"

#include "pmfs/meta/checksum.h"

namespace pmfs::meta {
namespace {

const char* name_of(QuotaKind k) { return k == QuotaKind::kUser ? "user" : "project"; }

void seal(const pool_base& pop, QuotaMedia* q) {
  const uint64_t off = pop.pptr(q).off;
  reseal(off, &q->checksum, checksum_of(*q, off));
}

void check_limit(QuotaKind kind, uint32_t id, const char* what, uint64_t used, int64_t more, uint64_t limit) {
  if (more <= 0 || limit == 0 || used + static_cast<uint64_t>(more) <= limit) return;
  fail(EDQUOT, "{} {} has {} of {} {}: {} more are over the quota", name_of(kind), id, used, limit, what, more);
}

}  // namespace

void Quotas::open() {
  std::vector<std::string> findings;
  if (!check(&findings)) fail(EUCLEAN, "{}", findings[0]);
  tree_.visit(0, [&](const Record& r) {
    index_[r.key] = m_.pop.direct(persistent_ptr<QuotaMedia>{r.a});
    return true;
  });
}

bool Quotas::check(std::vector<std::string>* findings) const {
  const uint64_t pool = m_.root->sb.pool_bytes;
  if (!tree_.check("quotas", pool, findings)) return false;
  bool ok = true;
  tree_.visit(0, [&](const Record& r) {
    const uint64_t kind = r.key >> 32;
    if ((kind == 1 || kind == 2) && r.a != 0 && r.a % 8 == 0 && r.a <= pool - sizeof(QuotaMedia)) {
      const QuotaMedia* q = m_.pop.direct(persistent_ptr<QuotaMedia>{r.a});
      if (q->checksum == checksum_of(*q, r.a)) return true;
    }
    findings->push_back(fmt::format("quotas: the record of key {:#x} is damaged", r.key));
    ok = false;
    return true;
  });
  return ok;
}

void Quotas::charge_one(QuotaKind kind, uint32_t id, int64_t blocks, int64_t inodes, bool limited) {
  auto it = index_.find(key(kind, id));
  if (it == index_.end()) return;
  QuotaMedia* q = it->second;
  if (limited) {
    check_limit(kind, id, "blocks", q->blocks, blocks, q->block_limit);
    check_limit(kind, id, "inodes", q->inodes, inodes, q->inode_limit);
  }
  transaction::snapshot(q);
  q->blocks += static_cast<uint64_t>(blocks);
  q->inodes += static_cast<uint64_t>(inodes);
  seal(m_.pop, q);
}

void Quotas::charge_all(uint32_t uid, uint32_t project, int64_t blocks, int64_t inodes, bool limited) {
  charge_one(QuotaKind::kUser, uid, blocks, inodes, limited);
  if (project != 0) charge_one(QuotaKind::kProject, project, blocks, inodes, limited);
}

void Quotas::transfer(const InodeMedia* i, uint32_t uid, uint32_t project) {
  if (index_.empty()) return;
  const auto blocks = static_cast<int64_t>(i->blocks);
  charge_all(i->uid, i->project, -blocks, -1, false);
  charge_all(uid, project, blocks, 1, false);
}

void Quotas::set(const Quota& q) {
  const uint64_t k = key(q.kind, q.id);
  auto it = index_.find(k);
  if (q.block_limit == 0 && q.inode_limit == 0) {
    if (it == index_.end()) return;
    tree_.erase(k);
    delete_persistent(m_.pop, m_.pop.pptr(it->second));
    return;
  }
  QuotaMedia* media;
  if (it != index_.end()) {
    media = it->second;
    transaction::snapshot(media);
  } else {
    auto ptr = make_persistent<QuotaMedia>();
    tree_.insert({k, ptr.off, 0});
    media = m_.pop.direct(ptr);
    media->blocks = q.blocks;
    media->inodes = q.inodes;
  }
  media->block_limit = q.block_limit;
  media->inode_limit = q.inode_limit;
  seal(m_.pop, media);
}

void Quotas::committed(QuotaKind kind, uint32_t id) {
  const uint64_t k = key(kind, id);
  if (auto r = tree_.find(k))
    index_[k] = m_.pop.direct(persistent_ptr<QuotaMedia>{r->a});
  else
    index_.erase(k);
}

std::vector<Quota> Quotas::all() const {
  std::vector<Quota> out;
  tree_.visit(0, [&](const Record& r) {
    const QuotaMedia* q = m_.pop.direct(persistent_ptr<QuotaMedia>{r.a});
    out.push_back({static_cast<QuotaKind>(r.key >> 32), static_cast<uint32_t>(r.key), q->blocks, q->inodes,
                   q->block_limit, q->inode_limit});
    return true;
  });
  return out;
}

}  // namespace pmfs::meta
