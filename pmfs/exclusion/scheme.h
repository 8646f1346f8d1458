// The one interface behind which every scheme of the debate stands: how an invalidate (truncate, punch, ...)
// keeps the faults of one inode out. One object per inode.
//
// What is common to all schemes and not theirs to decide: a fault holds the LOCKED lock entries of its pages, so
// that two faults on one page exclude each other ("two faults allocating the same hole" is closed by that).
//
//   fault:       enter_fault -> lock entries, look up -> fault_locked (false: start again) -> allocate, commit
//                -> fault_resolved -> install -> unlock entries -> leave_fault
//   invalidate:  enter_invalidate -> extents leave, zap -> unmapped -> entries out, free -> leave_invalidate
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "pmfs/base/types.h"
#include "pmfs/exclusion/entry_tree.h"
#include "pmfs/exclusion/range_lock.h"

namespace pmfs::exclusion {

class WoundTicket;

struct FaultTicket {
  PageRange range{};      // what enter_fault covered: no page outside of it may be installed
  uint64_t cookie = 0, seen = 0;  // the scheme's own
  unsigned retries = 0;   // how often fault_locked said no; kept by the caller from one attempt to the next
  WoundTicket* wound = nullptr;  // of an operation on two files; for schemes that `wounds()`
};

struct InvalidateTicket {
  PageRange range{};
  RangeLock::Ticket range_lock = nullptr;
  Marks marks{};
  uint64_t cookie = 0;
  WoundTicket* wound = nullptr;
};

class Scheme {
 public:
  virtual ~Scheme() = default;
  virtual std::string_view name() const = 0;

  // --- fault side. `r` is not empty; its first page is the one that faults and the only one that is waited for: a
  // scheme may cut the rest off (t->range). False: would have to wait (kNoWait), or wounded.
  virtual bool enter_fault(PageRange r, Wait wait, FaultTicket* t) = 0;
  // The entries are LOCKED, what backs them was looked up, nothing has been changed. False: an invalidate has come
  // between; undo (unlock, leave_fault) and start again with the same ticket. Bounded: no scheme says it for ever.
  virtual bool fault_locked(FaultTicket*) { return true; }
  // The pages' blocks are known; their PTEs are installed (or their bytes copied) next. A scheme that trusts a lookup
  // without holding anything (broken) lets go here. False: as above.
  virtual bool fault_resolved(FaultTicket*) { return true; }
  virtual void leave_fault(FaultTicket* t) = 0;  // also of a fault that was not resolved
  // Does the fault check i_size? (`none` does not.)
  virtual bool fault_checks_size() const { return true; }

  // --- invalidate side. Covers pages `r`; on return no fault is between lookup and install in it, and none will be
  // (sound schemes), and no 2 MiB entry straddles an edge of it. False: would have to wait (kNoWait), cancelled, or
  // wounded. `cancel` interrupts a wait in a range lock; other waits it only prevents. Left by the thread that
  // entered.
  virtual bool enter_invalidate(PageRange r, Wait wait, CancelToken* cancel, InvalidateTicket* t) = 0;
  // The PTEs are gone, the blocks not yet free. Only a broken scheme does anything here.
  virtual void unmapped(InvalidateTicket*) {}
  virtual void leave_invalidate(InvalidateTicket* t) = 0;
  // How the invalidate may remove entries.
  virtual LockEntryTree::Erase erase_mode() const { return LockEntryTree::Erase::kMarked; }

  // Does it order two files by wound/wait (two_files.h)? The others are backed out of.
  virtual bool wounds() const { return false; }
  // Threads asleep in the scheme's own locks (those asleep at entries are the tree's), for tests.
  virtual unsigned waiters() const = 0;
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
