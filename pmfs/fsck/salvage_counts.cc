// What is counted apart from what it counts: the owners of shared blocks, and what quotas say is used. A repair counts
// again; of a quota it keeps the limits.
#include "pmfs/fsck/salvage_impl.h"
#include "pmfs/meta/checksum.h"

namespace pmfs::fsck {
namespace {

using namespace meta;

using Runs = std::vector<std::pair<Extent, uint64_t>>;  // blocks and their owners, two or more

void put(Runs& runs, Extent e, uint64_t owners) {
  if (owners < 2) return;
  if (!runs.empty() && runs.back().first.end() == e.first && runs.back().second == owners)
    runs.back().first.count += e.count;
  else
    runs.emplace_back(e, owners);
}

void check_owner_counts(State& s) {
  std::map<uint64_t, int64_t> more;  // block -> how many more owners from here on
  for (const Owner& o : s.sharers) {
    ++more[o.blocks.first.v];
    --more[o.blocks.end().v];
  }
  Runs found, counted;
  int64_t owners = 0;
  for (auto it = more.begin(); it != more.end(); ++it) {
    owners += it->second;
    if (auto next = std::next(it); next != more.end())
      put(found, {Pfn(it->first), next->first - it->first}, static_cast<uint64_t>(owners));
  }
  read_tree(s, s.pool.root().shared, 0, [&](const Record& r) { put(counted, {Pfn(r.key), r.a}, r.b); });
  if (found == counted) return;
  size_t k = 0;
  while (k < found.size() && k < counted.size() && found[k] == counted[k]) ++k;
  const auto& [e, n] = k < found.size() ? found[k] : counted[k];
  s.add("owner counts", 0, e.first.v, "near block {} the owners of shared blocks are counted wrongly", e.first.v);
}

void read_quotas(State& s) {
  read_tree(s, s.pool.root().quotas, 0, [&](const Record& r) {
    const auto kind = static_cast<QuotaKind>(r.key >> 32);
    const auto id = static_cast<uint32_t>(r.key);
    const QuotaMedia* q = s.object<QuotaMedia>(r.a);
    if (q == nullptr || (kind != QuotaKind::kUser && kind != QuotaKind::kProject) ||
        (q->block_limit == 0 && q->inode_limit == 0)) {
      s.add("quota", 0, std::nullopt, "the quota of entry {:#x} is damaged; it is lost", r.key);
      ++s.out.saved.lost;
      return;
    }
    s.out.saved.quotas.push_back({kind, id, 0, 0, q->block_limit, q->inode_limit});
    if (q->checksum != checksum_of(*q, r.a)) {
      s.add("quota", 0, std::nullopt, "the checksum of the quota of entry {:#x} does not match; it is kept as it is",
            r.key);
    }
    const Quota& used = s.usage[{kind, id}];
    if (used.blocks == q->blocks && used.inodes == q->inodes) return;
    s.add("quota", 0, std::nullopt, "{} {} has {} blocks and {} inodes, but {} and {} counted",
          kind == QuotaKind::kUser ? "user" : "project", id, used.blocks, used.inodes, q->blocks, q->inodes);
  });
}

}  // namespace

void check_counts(State& s) {
  check_owner_counts(s);
  read_quotas(s);
}

}  // namespace pmfs::fsck
