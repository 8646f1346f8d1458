// The first oracle: what a load may see. control_block.h has the argument why it has no false alarms.
#pragma once

#include <string>

#include "tools/torture/control_block.h"
#include "tools/torture/stamp.h"

namespace torture {

// What must hold for one look at one word; taken before the look.
struct Expectation {
  uint32_t floor = 0;
  uint32_t present = 0;  // 0: nothing known
};
Expectation expect(const PageState& page, unsigned word);

// Null: legal. Else the kind of violation, with `why` filled. Call after the look.
const char* judge(ControlBlock* cb, unsigned area, uint64_t page, unsigned word, uint64_t value, const Expectation& e,
                  std::string* why);
// A word whose check does not fit may be half of a write that is on its way: is one in flight there?
bool write_in_flight(const ControlBlock* cb, unsigned area, uint64_t first, uint64_t end);

// Size as far as it is known, before and after an access.
struct SizeView {
  uint32_t version = 0;
  bool known = false;
  uint64_t size = 0;
};
SizeView view_size(const Area& a);
bool unchanged(const Area& a, const SizeView& before);

// Brackets a call that may change the size; the last of several in flight reads it anew.
void begin_resize(Area& a);
template <class ReadSize>
void end_resize(Area& a, const ReadSize& read_size) {
  if (a.size_active.fetch_sub(1) != 1) return;
  uint32_t version = a.size_version.load();
  if (a.size_active.load() != 0) return;
  uint64_t size = read_size();
  if (a.size_version.load() == version) a.size_published.store(pack_size(version, size));
}

// Brackets an invalidate of bytes [first, end) of an area.
class Invalidation {
 public:
  Invalidation(ControlBlock* cb, unsigned self, unsigned area, uint64_t first, uint64_t end);
  Invalidation(const Invalidation&) = delete;
  Invalidation& operator=(const Invalidation&) = delete;
  uint32_t gen() const { return gen_; }
  // It returned: everything older in [first, end) and below `limit` is gone; in partial pages only if
  // `partial_edges`. Not called if the operation failed.
  void returned(bool partial_edges, uint64_t limit = ~uint64_t{0});
  void finished();  // no effect is still to come (call after returned(), or alone if it failed cleanly)

 private:
  struct Busy {
    uint64_t first, end;
  };
  bool busy(uint64_t first, uint64_t end) const;

  ControlBlock* cb_;
  unsigned area_;
  uint64_t first_, end_;
  uint32_t gen_;
  unsigned busy_count_ = 0;
  Busy busy_[2 * kMaxClients];
};

}  // namespace torture
