// The one interface behind which every scheme of the debate stands: how an invalidate (truncate, punch, ...)
// keeps the faults of one inode out. One object per inode.
//
// What is common to all schemes and not theirs to decide: a fault holds the LOCKED lock entry of its page, so
// that two faults on one page exclude each other ("two faults allocating the same hole" is closed by that).
//
//   fault:       enter_fault -> lock entry -> i_size check, lookup, allocate -> fault_resolved (false: start again)
//                -> install -> unlock entry -> leave_fault
//   invalidate:  enter_invalidate -> extents leave, zap, free -> leave_invalidate
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "pmfs/base/types.h"
#include "pmfs/exclusion/entry_tree.h"
#include "pmfs/exclusion/range_lock.h"

namespace pmfs::exclusion {

struct FaultTicket {
  PageRange range{};
  uint64_t cookie = 0;  // the scheme's own
};

struct InvalidateTicket {
  PageRange range{};
  RangeLock::Ticket range_lock = nullptr;
  Marks marks{};
  uint64_t cookie = 0;
};

class Scheme {
 public:
  virtual ~Scheme() = default;
  virtual std::string_view name() const = 0;

  // --- fault side. False: would have to wait (kNoWait only).
  virtual bool enter_fault(PageRange r, Wait wait, FaultTicket* t) = 0;
  // The page's block is known; its PTE is installed (or its bytes copied) next. False: an invalidate may have come
  // between, start again from enter_fault; nothing was installed.
  virtual bool fault_resolved(FaultTicket* t) = 0;
  virtual void leave_fault(FaultTicket* t) = 0;  // also of a fault that was not resolved
  // Does the fault check i_size? (`none` does not.)
  virtual bool fault_checks_size() const = 0;

  // --- invalidate side. Covers pages `r`; on return no fault is between lookup and install in it, and none will be
  // (sound schemes). False: would have to wait (kNoWait) or cancelled. Left by the thread that entered.
  virtual bool enter_invalidate(PageRange r, Wait wait, CancelToken* cancel, InvalidateTicket* t) = 0;
  virtual void leave_invalidate(InvalidateTicket* t) = 0;
  // How the invalidate may remove entries.
  virtual LockEntryTree::Erase erase_mode() const = 0;
};

struct SchemeInfo {
  std::string_view name, source, idea;
  bool sound;  // a volume for real use accepts sound schemes only
  std::unique_ptr<Scheme> (*make)(LockEntryTree& tree, uint64_t ino);
};

std::span<const SchemeInfo> schemes();
const SchemeInfo* find_scheme(std::string_view name);  // null: no such scheme
inline constexpr std::string_view kDefaultScheme = "range";

}  // namespace pmfs::exclusion
