// The whole fault path of a scheme, as BlockRun goes it.
#pragma once

#include "pmfs/exclusion/scheme.h"

namespace pmfs::bench {

inline void fault(exclusion::Scheme& s, exclusion::LockEntryTree& t, uint64_t page) {
  exclusion::FaultTicket ticket;
  for (;;) {
    s.enter_fault({Pgoff(page), Pgoff(page + 1)}, Wait::kBlock, &ticket);
    const exclusion::LockedEntry e = t.lock(Pgoff(page), 0, Wait::kBlock);
    const bool in = s.fault_locked(&ticket) && s.fault_resolved(&ticket);
    t.unlock(e, in ? exclusion::Entry::make(Pfn(page), 0, 0) : e.value);
    s.leave_fault(&ticket);
    if (in) return;
    ++ticket.retries;
  }
}

}  // namespace pmfs::bench
