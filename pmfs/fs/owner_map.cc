#include "pmfs/fs/owner_map.h"

#include <sys/mman.h>

#include "pmfs/base/error.h"
#include "pmfs/base/sys.h"

namespace pmfs {

namespace {
constexpr uint64_t kEvents = 1 << 16;
constexpr size_t kExplained = 12;
constexpr uint64_t kZeroBit = uint64_t{1} << 63;
}  // namespace

struct OwnerMap::Slot {
  std::atomic<uint64_t> ino, pgoff, generation;  // generation is odd while the other two change
};

struct OwnerMap::Event {
  std::atomic<uint64_t> seq{0};  // 0: being written; else 1 + number
  std::atomic<uint64_t> what_client{0}, ino{0}, pgoff{0}, pfn{0}, count{0};
  std::atomic<int64_t> when_ns{0};
};

const char* block_event_name(BlockEvent e) {
  switch (e) {
    case BlockEvent::kNone: return "none";
    case BlockEvent::kInstall: return "fault: install";
    case BlockEvent::kTruncate: return "truncate: zap and free";
    case BlockEvent::kPunch: return "punch: zap and free";
    case BlockEvent::kZeroRange: return "zero range: zap";
    case BlockEvent::kEvict: return "last close: zap and free";
    case BlockEvent::kReclaim: return "zero block reclaimed";
    case BlockEvent::kCollapse: return "collapse";
    case BlockEvent::kInsert: return "insert";
    case BlockEvent::kClone: return "clone";
  }
  return "?";
}

OwnerMap::OwnerMap(uint64_t blocks) : blocks_(blocks), events_(new Event[kEvents]) {
  void* p = ::mmap(nullptr, blocks * sizeof(Slot), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) fail(ENOMEM, "no memory to track the owners of {} blocks", blocks);
  slots_ = static_cast<Slot*>(p);
}

OwnerMap::~OwnerMap() { ::munmap(static_cast<void*>(slots_), blocks_ * sizeof(Slot)); }

void OwnerMap::set(Ino ino, const FileExtent& e, bool zero) {
  for (uint64_t i = 0; i < e.count; ++i) {
    Slot& s = slots_[e.pfn.v + i];
    uint64_t key = to_u64(ino) | (zero ? kZeroBit : 0);
    if (s.ino.load(std::memory_order_relaxed) == key && s.pgoff.load(std::memory_order_relaxed) == e.pgoff.v + i)
      continue;
    // A zero block that its file commits keeps owner and generation.
    bool same = (s.ino.load(std::memory_order_relaxed) & ~kZeroBit) == to_u64(ino) &&
                s.pgoff.load(std::memory_order_relaxed) == e.pgoff.v + i;
    if (!same) s.generation.fetch_add(1);
    s.pgoff.store(e.pgoff.v + i);
    s.ino.store(key);
    if (!same) s.generation.fetch_add(1);
  }
}

void OwnerMap::clear(Extent e) {
  for (uint64_t i = 0; i < e.count; ++i) {
    Slot& s = slots_[e.first.v + i];
    s.generation.fetch_add(1);
    s.ino.store(0);
    s.generation.fetch_add(1);
  }
}

BlockOwner OwnerMap::get(Pfn p) const {
  const Slot& s = slots_[p.v];
  for (;;) {
    uint64_t g = s.generation.load(), ino = s.ino.load(), pgoff = s.pgoff.load();
    if ((g & 1) == 0 && s.generation.load() == g)
      return {Ino{ino & ~kZeroBit}, Pgoff(pgoff), (ino & kZeroBit) != 0, g};
  }
}

void OwnerMap::record(BlockEvent what, uint64_t client, Ino ino, Pgoff pgoff, Extent e) {
  uint64_t n = next_.fetch_add(1, std::memory_order_relaxed);
  Event& v = events_[n % kEvents];
  v.seq.store(0);
  v.what_client.store(static_cast<uint64_t>(what) | client << 8);
  v.ino.store(to_u64(ino));
  v.pgoff.store(pgoff.v);
  v.pfn.store(e.first.v);
  v.count.store(e.count);
  v.when_ns.store(sys().monotonic_ns());
  v.seq.store(n + 1);
}

std::string OwnerMap::explain(Pfn p) const {
  uint64_t end = next_.load();
  std::string out;
  size_t found = 0;
  for (uint64_t k = end; k-- > (end > kEvents ? end - kEvents : 0) && found < kExplained;) {
    const Event& v = events_[k % kEvents];
    Extent e{Pfn(v.pfn.load()), v.count.load()};
    if (v.seq.load() != k + 1 || !e.contains(p)) continue;
    uint64_t wc = v.what_client.load();
    out += fmt::format("{:.9f} {} by client {}: ino {} pgoff {} -> blocks {}+{}\n",
                       static_cast<double>(v.when_ns.load()) * 1e-9, block_event_name(static_cast<BlockEvent>(wc & 0xff)),
                       wc >> 8, v.ino.load(), v.pgoff.load(), e.first.v, e.count);
    ++found;
  }
  return out;
}

}  // namespace pmfs
