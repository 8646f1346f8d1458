#include "pmfs/fault/handler.h"

#include <sys/mman.h>

#include <optional>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/base/sys.h"

namespace pmfs::fault {

namespace {

// A direct mapping: the kernel resolves the client's faults where it has a block mapped, so any page of it may be stored to.
void mark_direct(Mapping& m, BlockRun& run) {
  run.mark_shown();
  if ((m.prot() & PROT_WRITE) == 0) return;
  run.mark_dirty();
  if (!m.inode().stores_unseen.load(std::memory_order_relaxed)) m.inode().stores_unseen.store(true);
}

}  // namespace

void FaultHandler::handle(Client& client, const uffd_msg& m) {
  // The userfaultfd of a child, which nobody asked for: reading the event has made it ours.
  if (m.event == UFFD_EVENT_FORK) UniqueFd(static_cast<int>(m.arg.fork.ufd)).reset();
  if (m.event != UFFD_EVENT_PAGEFAULT) return;  // REMAP: reading it has let the agent's mremap go on
  int64_t start = sys().monotonic_ns();
  const uint64_t flags = m.arg.pagefault.flags, address = m.arg.pagefault.address & ~(kBlockSize - 1);
  client.faults.add();
  counters_.faults.add();
  const bool wp = flags & UFFD_PAGEFAULT_FLAG_WP;
  (wp ? counters_.wp : (flags & UFFD_PAGEFAULT_FLAG_MINOR) ? counters_.minor : counters_.missing).add();
  PMFS_PAUSE_POINT("fault:event_read");
  const bool reattaching = client.reattaching.load();  // before the look: its last mapping may be known in between
  std::shared_ptr<Mapping> mapping = client.find(address);
  if (!mapping && reattaching) {
    counters_.stale.add();
    return;  // the thread is woken when its mapping has been put back
  }
  if (!mapping) {
    // Unmapped meanwhile, or never one of ours: it must not wait for ever, nor go round in circles. Poison may hit the mapping
    // that comes next to that address, so it is for who does go round.
    PMFS_PAUSE_POINT("fault:stray");
    counters_.stale.add();
    if (!client.stray() || client.uffd()->poison(address, kBlockSize) != 0) client.uffd()->wake(address, kBlockSize);
    return;
  }
  client.found();
  fault(client, *mapping, mapping->pgoff_at(address), address, wp || (flags & UFFD_PAGEFAULT_FLAG_WRITE), wp);
  counters_.fault_ns.record(sys().monotonic_ns() - start);
}

// lock entry -> i_size -> what backs the page -> allocate or commit -> install -> unlock
void FaultHandler::fault(Client& client, Mapping& m, Pgoff p, uint64_t address, bool write, bool upgrade) {
  Inode& inode = m.inode();
  inode.traffic.faults.add();
  const bool gated = !m.direct;
  if (write && client.read_only) return m.refuse_store(p);
  const FaultAround::Window window = m.around.at(p);
  Mapping::Installed result = Mapping::Installed::kDone;
  bool beyond_eof = false, no_page = false;
  const uint64_t times_freed = volume_.times_freed();
  for (;;) {
    beyond_eof = no_page = false;
    std::optional<BlockRun> grabbed;
    try {
      grabbed.emplace(BlockRun::grab(volume_, inode, p, std::min(window.install, m.pages.end - p), Wait::kBlock));
    } catch (const Error&) {
      no_page = true;  // EIO, EUCLEAN: the file's extent map is damaged
      break;
    }
    BlockRun& run = *grabbed;
    PMFS_PAUSE_POINT("fault:entry_locked");
    try {
      if (run.kind() == BlockKind::kBeyondEof) {
        beyond_eof = true;
      } else {
        if (run.kind() == BlockKind::kHole && (gated || write)) run.allocate(window.allocate);
        run.own(window.allocate);
        if (write) {
          // A hole that is written in order gets its blocks ahead of the stores; otherwise only the touched page.
          if (run.kind() == BlockKind::kZero || run.kind() == BlockKind::kUnwritten) run.shrink(window.allocate);
          run.zero_unwritten();
          run.commit();
        } else if (gated) {
          run.keep_zero();
          run.zero_unwritten();
        }
      }
    } catch (const Error&) {
      no_page = true;  // ENOSPC of blocks, of the tmpfs or of the metadata pool
    }
    PMFS_PAUSE_POINT("fault:resolved");
    if (!run.resolved()) {
      counters_.retries.add();
      continue;
    }
    PMFS_PAUSE_POINT("fault:before_install");
    if (!beyond_eof && !no_page && !gated) {
      result = show(client, m, run, p);
    } else if (!beyond_eof && !no_page) {
      run.mark_shown();
      // A load gets its PTE read-only, as the kernel does it for a file system that wants to know of stores (mkwrite).
      const bool stores = write && run.writable();
      if (stores) {
        run.mark_dirty();
        if (!inode.stores_unseen.load(std::memory_order_relaxed)) inode.stores_unseen.store(true);
      }
      if (OwnerMap* owners = volume_.owners())
        owners->record(BlockEvent::kInstall, client.id, inode.ino, run.extent().pgoff, run.extent().blocks());
      const Mapping::Outcome done = m.install(run, p, !stores, upgrade, volume_.region());
      result = done.result;
      counters_.installed_pages.add(done.pages);
      client.installs.add(done.pages);
      m.around.covered(p, run.end() - p, done.neighbour);
    }
    PMFS_PAUSE_POINT("fault:installed");
    break;
  }
  if (beyond_eof) {
    counters_.sigbus.add();
    m.beyond_eof(p);
  } else if (no_page || result == Mapping::Installed::kNoSpace) {
    this->no_page(client, m, p, address, times_freed);
  } else if (result == Mapping::Installed::kRetry) {
    counters_.retries.add();
    client.uffd()->wake(address, kBlockSize);  // faults again: no state to keep here
  } else if (result == Mapping::Installed::kGone) {
    counters_.stale.add();
    client.uffd()->wake(address, kBlockSize);
  } else if (result == Mapping::Installed::kAgent) {
    counters_.commands.add();
  }
}

Mapping::Installed FaultHandler::show(Client& client, Mapping& m, BlockRun& run, Pgoff p) {
  if (!run.writable()) {
    const Mapping::Outcome done = m.show_zeros(run.visible(p).range());
    counters_.installed_pages.add(done.pages);
    client.installs.add(done.pages);
    if (done.pages != 0) m.around.covered(p, done.pages, false);
    return done.result;
  }
  mark_direct(m, run);
  if (OwnerMap* owners = volume_.owners())
    owners->record(BlockEvent::kInstall, client.id, m.inode().ino, run.extent().pgoff, run.extent().blocks());
  // The kernel maps the rest of the run without asking: what comes next is behind it.
  m.around.covered(p, run.end() - p, false);
  return m.map_direct(run);
}

// As faults would, but that nobody is waited for: a VMA is no hint here.
uint64_t FaultHandler::map_ahead(Mapping& m, const std::vector<FileExtent>& extents) {
  uint64_t last = 0;
  for (const FileExtent& e : extents) {
    const PageRange r{std::max(e.pgoff, m.pages.first), std::min(e.end(), m.pages.end)};
    if (e.unwritten || e.shared) continue;
    for (Pgoff p = r.first; p < r.end;) {
      BlockRun run = BlockRun::grab(volume_, m.inode(), p, r.end - p, Wait::kNoWait);
      if (run.kind() != BlockKind::kWritten || !run.resolved()) break;
      mark_direct(m, run);
      uint64_t seq = 0;
      if (m.map_direct(run, &seq) == Mapping::Installed::kGone) return last;
      last = std::max(last, seq);
      p = run.extent().end();
    }
  }
  return last;
}

void FaultHandler::no_page(Client& client, Mapping& m, Pgoff p, uint64_t address, uint64_t times_freed) {
  counters_.sigbus.add();
  client.starved.store(true);
  anyone_starved_.store(true);
  client.sigbus_page.raise_sigbus();
  // Who freed something since this fault began may have looked before the two lines above.
  if (volume_.times_freed() != times_freed) space_freed(client);
  if (!m.no_page(p)) client.uffd()->wake(address, kBlockSize);
}

void FaultHandler::space_freed(Client& client) {
  if (client.starved.exchange(false)) client.sigbus_page.try_again();
}

}  // namespace pmfs::fault
