// TwoFiles: one operation on two files at once: a range to be replaced in one (its invalidate side) and a page to be
// read from the other (its fault side), or any other pair; copy_file_range, reflink, a direct write whose buffer is
// mapped from a file.
//
// The danger (2019): A's side is held while B's is waited for, and the other way around in another thread, with the
// order in the hands of user space. Two ways out, both without an order:
//   - schemes that wound (add-lock): both are waited for; the older of two operations in each other's way wins, the
//     younger gives back what it has and tries again with its age. Then the lock entries, in ino order.
//   - all others: "trylock, drop and restart": the first is waited for, the second only tried. Refused, all is given
//     back, and where it was refused is waited for with nothing held. Never holds while it waits, so no deadlock; who
//     keeps losing has only chance to help it. Which comes first: the lower ino, so that two like operations rarely
//     meet head-on.
// One file on both sides would wait for itself: EDEADLK, the caller copies through a buffer instead.
// Not thread-safe; entered and left by one thread, that holds no lock of rank kRange or above.
#pragma once

#include <array>

#include "pmfs/exclusion/scheme.h"
#include "pmfs/exclusion/two_state_lock.h"

namespace pmfs::exclusion {

struct FileSide {
  Scheme* scheme;
  LockEntryTree* tree;
  uint64_t ino;
  LockSide side;    // kAdd: as a fault on the first page of `range`; kBlock: as an invalidate of `range`
  PageRange range;  // not empty
};

class TwoFiles {
 public:
  TwoFiles(const FileSide& a, const FileSide& b) : side_{State{a}, State{b}} {}
  ~TwoFiles() { leave(); }
  TwoFiles(const TwoFiles&) = delete;
  TwoFiles& operator=(const TwoFiles&) = delete;

  // 0; EAGAIN: kNoWait and something is in the way, nothing is held; EDEADLK: both sides are one file.
  int enter(Wait wait);
  void leave();  // the entry of a fault side as it was
  uint64_t retries() const { return retries_; }

 private:
  struct State {
    FileSide file;
    FaultTicket fault{};
    InvalidateTicket invalidate{};
    LockedEntry entry{};
    bool entered = false;
  };
  bool enter_scheme(State& s, Wait wait);
  bool lock_entry(State& s, Wait wait);
  bool enter_one(State& s, Wait wait);
  void leave_one(State& s);
  void enter_wounding();

  std::array<State, 2> side_;
  WoundTicket ticket_;
  uint64_t retries_ = 0;
};

}  // namespace pmfs::exclusion
