// handle_fault: what one userfaultfd event comes to. The manager's dax_iomap_fault.
#pragma once

#include <memory>

#include <linux/userfaultfd.h>

#include "pmfs/base/stats.h"
#include "pmfs/fault/client.h"

namespace pmfs::fault {

struct FaultCounters {
  Counter faults, minor, missing, wp, installed_pages, retries, stale, sigbus, commands;
  Histogram fault_ns;
};

class FaultHandler {
 public:
  explicit FaultHandler(MountedVolume& volume) : volume_(volume) {}
  // Any pager thread, no lock held. Never waits for a client; may wait for an invalidate of the page.
  void handle(Client& client, const uffd_msg& m);
  // Space was freed: pages that showed SIGBUS for want of it are tried again at their next touch.
  static void space_freed(Client& client);
  // Since the last call: is there anyone to tell?
  bool anyone_starved() { return anyone_starved_.load() && anyone_starved_.exchange(false); }
  // Acked mode: maps existing extents ahead of their first fault, those that nobody is busy with. The last command's number or 0.
  uint64_t map_ahead(Mapping& m, const std::vector<FileExtent>& extents);
  FaultCounters& counters() { return counters_; }

 private:
  void fault(Client& client, Mapping& m, Pgoff p, uint64_t address, bool write, bool upgrade);
  Mapping::Installed show(Client& client, Mapping& m, BlockRun& run, Pgoff p);
  void no_page(Client& client, Mapping& m, Pgoff p, uint64_t address, uint64_t times_freed);
  MountedVolume& volume_;
  FaultCounters counters_;
  std::atomic<bool> anyone_starved_{false};
};

}  // namespace pmfs::fault
