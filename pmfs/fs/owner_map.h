// Who each region block belongs to at this moment, for the PTE oracle and for naming operations in a
// violation report. Kept only with ServerOptions::trace: 24 bytes per block, and a ring of recent events.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "pmfs/base/types.h"

namespace pmfs {

enum class BlockEvent : uint8_t { kNone, kInstall, kTruncate, kPunch, kZeroRange, kEvict, kReclaim, kCollapse, kInsert, kClone };
const char* block_event_name(BlockEvent e);

struct BlockOwner {
  Ino ino{};           // 0: nobody
  Pgoff pgoff;
  bool zero = false;   // a volatile zero block
  uint64_t generation = 0;
};

// Thread-safe, lock-free. An owner is changed only by who holds the page's lock entry or mark.
class OwnerMap {
 public:
  explicit OwnerMap(uint64_t blocks);
  ~OwnerMap();
  void set(Ino ino, const FileExtent& e, bool zero);
  // After the zap, before the blocks can be reserved again.
  void clear(Extent e);
  BlockOwner get(Pfn p) const;

  void record(BlockEvent what, uint64_t client, Ino ino, Pgoff pgoff, Extent e);
  // The last events on `p`, newest first, a line each.
  std::string explain(Pfn p) const;

 private:
  struct Slot;
  struct Event;
  uint64_t blocks_;
  Slot* slots_;  // anonymous mapping: pages appear as they are touched
  std::unique_ptr<Event[]> events_;
  std::atomic<uint64_t> next_{0};
};

}  // namespace pmfs
