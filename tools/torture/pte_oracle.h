// The second oracle: what PTEs the clients really have, against who owns those blocks.
//
// A thread that goes round all clients: /proc/PID/maps for the parts of the region that are mapped, /proc/PID/pagemap
// for the pages of them that are present, the manager's block map for their owners. A suspect is a present PTE on a
// block that nobody owns, or that belongs elsewhere than what the client mapped there. Clients and manager run on
// meanwhile, so a suspect is looked at again: it counts only if the PTE was present between two answers of the
// manager with the same generation (which changes whenever the owner does), both wrong.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "pmfs/pmfs.hpp"
#include "pmfs/proto/protocol.h"
#include "tools/torture/control_block.h"

namespace torture {

struct PresentPage {
  uint64_t va, pfn;
};
// PTEs of `pid` on the file (st_dev, st_ino). Uses PAGEMAP_SCAN where the kernel has it. Empty for a dead process.
std::vector<PresentPage> present_pages(pid_t pid, uint64_t dev, uint64_t ino);

class PteOracle {
 public:
  PteOracle(ControlBlock* cb, const std::string& volume);  // throws pmfs::Error
  ~PteOracle();                                            // stops
  uint64_t rounds() const { return rounds_.load(); }
  uint64_t pages() const { return pages_.load(); }
  std::string error() const;  // why it ended early, or empty

 private:
  struct Suspect {
    uint64_t va, pfn, generation;
  };
  void run();
  void inspect(unsigned client, pid_t pid);
  bool wrong(const ClientSlot& c, uint64_t va, const pmfs::proto::WireBlock& b) const;
  void confirm(unsigned client, pid_t pid, const std::vector<Suspect>& suspects);

  ControlBlock* const cb_;
  pmfs::Volume volume_;
  uint64_t dev_ = 0, ino_ = 0;
  bool acked_ = false;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> rounds_{0}, pages_{0};
  std::atomic<bool> failed_{false};
  std::string error_;
  std::thread thread_;
};

}  // namespace torture
