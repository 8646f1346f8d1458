// Requests that tell about the manager itself.

#include <algorithm>
#include <cstring>

#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/sys.h"
#include "pmfs/server/dispatch.h"

namespace pmfs::server {

using namespace proto;

namespace {

template <size_t N>
void put(char (&out)[N], std::string_view s) {
  std::memset(out, 0, N);
  std::memcpy(out, s.data(), std::min(s.size(), N - 1));
}

enum WireState : uint32_t { kWireFree = 0, kWireReserved = 1, kWireUsed = 2, kWireDeferred = 3, kWireZero = 4 };

}  // namespace

void Dispatcher::require_admin(const Call& c) const {
  if (c.session.peer.uid != 0 && c.session.peer.uid != ::geteuid())
    fail(EPERM, "only root and the manager's own user may ask for this");
}

void Dispatcher::statfs(Call& c) {
  meta::Space sp = volume_.space();
  meta::Superblock sb = volume_.superblock();
  WireStatfs w{};
  w.block_size = kBlockSize;
  w.blocks_total = sp.blocks_total;
  w.blocks_used = sp.blocks_used;
  w.blocks_free = sp.blocks_free;
  w.blocks_zero = volume_.counters().zero_blocks.get();
  w.blocks_reserved = sp.blocks_reserved > w.blocks_zero ? sp.blocks_reserved - w.blocks_zero : 0;
  w.blocks_deferred = sp.blocks_deferred;
  w.inodes_used = sp.inodes_used;
  w.meta_bytes_total = sp.meta_bytes_total;
  w.meta_bytes_used = sp.meta_bytes_used;
  w.mount_epoch = sb.mount_epoch;
  w.clients = host_.sessions().size();
  std::memcpy(w.uuid, sb.uuid, sizeof w.uuid);
  put(w.region_kind, region_kind_name(volume_.region().kind()));
  put(w.granularity, volume_.region().granularity());
  put(w.exclusion, volume_.scheme().name);
  w.sparse = sb.geometry.sparse;
  w.unit_bytes = volume_.unit().bytes();
  w.pid = static_cast<uint32_t>(::getpid());
  std::memcpy(c.bounce, &w, sizeof w);
  c.reply.v0 = sizeof w;
}

void Dispatcher::grow(Call& c) {
  require_admin(c);
  const uint64_t unit = volume_.unit().bytes();
  if (c.r.a0 % unit != 0) fail(EINVAL, "grow: {} bytes are not a multiple of the block size, {}", c.r.a0, unit);
  volume_.grow(c.r.a0 / kBlockSize);
}

void Dispatcher::clients(Call& c) {
  uint64_t n = 0;
  for (auto& s : host_.sessions()) {
    if ((n + 1) * sizeof(WireClient) > kBounceBytes) break;
    WireClient w{};
    w.id = s->id;
    for (auto& m : s->client().mappings()) {
      ++w.mappings;
      w.mapped_bytes += m->pages.count() * kBlockSize;
    }
    w.handles = s->files();
    w.faults = s->client().faults.get();
    w.installs = s->client().installs.get();
    w.agent_queue = s->agent_queue();
    w.pid = static_cast<uint32_t>(s->peer.pid);
    w.uid = s->peer.uid;
    w.state = (s->ready() ? kClientReady : 0) | (s->read_only ? kClientReadOnly : 0);
    const Session::Revokes revokes = s->revokes();
    w.revokes = static_cast<uint32_t>(revokes.count);
    w.revoke_age_ns = revokes.count == 0 ? 0 : static_cast<uint64_t>(sys().monotonic_ns() - revokes.since_ns);
    std::memcpy(c.bounce + n++ * sizeof w, &w, sizeof w);
  }
  c.reply.v0 = n;
}

void Dispatcher::blocks(Call& c) {
  require_admin(c);
  OwnerMap* owners = volume_.owners();
  if (!owners) fail(ENOTSUP, "the manager does not track block owners; serve the volume with --trace");
  constexpr uint64_t kMost = kBounceBytes / sizeof(WireBlock);
  if (c.r.a0 > kMost) fail(EINVAL, "{} blocks asked for; at most {} at once", c.r.a0, kMost);
  std::vector<uint64_t> pfns(c.r.a0);
  if (!pfns.empty()) std::memcpy(pfns.data(), c.bounce, pfns.size() * sizeof(uint64_t));
  uint64_t n = 0;
  for (uint64_t pfn : pfns) {
    if (pfn >= volume_.region().blocks()) fail(EINVAL, "block {}: the region has {}", pfn, volume_.region().blocks());
    BlockOwner o = owners->get(Pfn(pfn));
    WireBlock w{pfn, kWireFree, 0, to_u64(o.ino), o.pgoff.v, o.generation};
    if (o.ino != Ino{}) {
      w.state = o.zero ? kWireZero : kWireUsed;
    } else {
      switch (volume_.store().block_state(Pfn(pfn))) {
        case meta::BlockState::kFree: w.state = kWireFree; break;
        case meta::BlockState::kReserved: w.state = kWireReserved; break;
        case meta::BlockState::kDeferred: w.state = kWireDeferred; break;
        case meta::BlockState::kUsed: w.state = kWireUsed; break;
      }
    }
    std::memcpy(c.bounce + n++ * sizeof w, &w, sizeof w);
  }
  c.reply.v0 = n;
}

void Dispatcher::counters(Call& c) {
  fault::FaultCounters& f = faults_.counters();
  VolumeCounters& v = volume_.counters();
  WireCounters w{};
  w.faults = f.faults.get();
  w.faults_minor = f.minor.get();
  w.faults_missing = f.missing.get();
  w.faults_wp = f.wp.get();
  w.installs_pages = f.installed_pages.get();
  w.retries = f.retries.get();
  w.stale_events = f.stale.get();
  w.sigbus = f.sigbus.get();
  w.invalidates = v.invalidates.get();
  w.zaps = v.zaps.get();
  w.zapped_pages = v.zapped_pages.get();
  w.agent_commands = f.commands.get();
  w.requests = host_.requests.get();
  w.protocol_errors = host_.protocol_errors.get();
  w.canary_errors = volume_.region().canary_errors();
  w.zero_blocks = v.zero_blocks.get();
  w.zero_commits = v.zero_commits.get();
  w.clients = host_.sessions().size();
  w.client_deaths = host_.client_deaths.get();
  w.fault_p50_ns = f.fault_ns.quantile(0.5);
  w.fault_p99_ns = f.fault_ns.quantile(0.99);
  w.fault_p999_ns = f.fault_ns.quantile(0.999);
  w.invalidate_p50_ns = v.invalidate_ns.quantile(0.5);
  w.invalidate_p99_ns = v.invalidate_ns.quantile(0.99);
  std::memcpy(c.bounce, &w, sizeof w);
  c.reply.v0 = sizeof w;
}

void Dispatcher::files(Call& c) {
  static_assert(kMostFiles * sizeof(WireFile) <= kBounceBytes);
  if (c.r.a0 > kMostFiles) fail(EINVAL, "{} files asked for; at most {} at once", c.r.a0, kMostFiles);
  std::vector<WireFile> all;
  for (const auto& i : volume_.in_memory()) {
    const Inode::Traffic& t = i->traffic;
    all.push_back({to_u64(i->ino), i->i_size.load(), t.faults.get(), t.invalidates.get(), t.zapped_pages.get(), i->entries.waits()});
  }
  const auto busy = [](const WireFile& f) { return f.faults + f.invalidates + f.zapped_pages + f.waits; };
  const size_t n = std::min<size_t>(c.r.a0, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n), all.end(),
                    [&](const WireFile& a, const WireFile& b) { return busy(a) > busy(b); });
  if (n != 0) std::memcpy(c.bounce, all.data(), n * sizeof(WireFile));
  c.reply.v0 = n;
}

void Dispatcher::trace(Call& c) {
  require_admin(c);
  OwnerMap* owners = volume_.owners();
  if (!owners) fail(ENOTSUP, "the manager keeps no trace; serve the volume with --trace");
  if (c.r.a0 >= volume_.region().blocks()) fail(EINVAL, "block {}: the region has {}", c.r.a0, volume_.region().blocks());
  std::string text = owners->explain(Pfn(c.r.a0));
  text.resize(std::min<size_t>(text.size(), kBounceBytes));
  std::memcpy(c.bounce, text.data(), text.size());
  c.reply.v0 = text.size();
}

}  // namespace pmfs::server
