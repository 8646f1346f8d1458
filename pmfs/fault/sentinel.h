// Sentinel: an always empty memfd as large as the file, one per client and inode, that a client maps where it
// has no block mapped. Inside the file's size a touch raises a MISSING event; beyond it the kernel itself raises
// SIGBUS. So growth and truncation take effect at once in every client without asking it anything.
//
// In acked mode it is not always empty: it holds zeros for holes that were loaded from, installed write-protected. Dropping
// them is a hole punched in it, at which the kernel takes the PTEs away. A page is shown and dropped under the exclusion of a
// fault on it, so the two don't race.
#pragma once

#include <atomic>

#include "pmfs/base/unique_fd.h"
#include "pmfs/fs/inode_ref.h"

namespace pmfs::fault {

class Sentinel final : public SizeListener {
 public:
  explicit Sentinel(InodeRef inode);
  ~Sentinel() override;
  void size_changed(uint64_t bytes) override;
  void drop_zeros(PageRange r) override;
  // Zeros are about to be installed on `r`. When they become too many all are dropped, as they take memory.
  void shown(PageRange r);
  int fd() const { return fd_.get(); }

 private:
  const InodeRef inode_;
  UniqueFd fd_;
  std::atomic<uint64_t> pages_{0};  // it has at most so many
};

// The same trick for pages that can't be had: size 0 (SIGBUS) or as large as any unit (MISSING event: try again).
class SigbusPage {
 public:
  SigbusPage();
  int fd() const { return fd_.get(); }
  void raise_sigbus();
  void try_again();

 private:
  UniqueFd fd_;
};

}  // namespace pmfs::fault
