// Mapping: a client's VMA range of a file, as the manager knows it.
//
// Of a gated client VMAs are hints, and PTEs are installed here. Of a direct one (each of an acked volume, and read-only ones) a
// VMA of the region is direct, the kernel resolves its faults; so
// the client may have PTEs wherever it has such a VMA, or was told to make one, or where nobody knows. Those it is asked to
// take away (revoke) before a block is anybody else's. Commands of a client are executed in order, so the answer to one
// that came later covers those before it.
//
// vma_mutex_ (LockRank::kVma): shared while installing PTEs, exclusive while a VMA command is posted. So between
// the look at the VMA table and the install no command can be given to the agent, and what the agent has not
// been told it does not do: the install goes to the VMA that was looked at.
//
//   state  | left by    | who meets it (a fault, the agent's answer, write_protect)
//   whole  | split(), unmapped()
//   split  | -          | gone: a fault is tried again and finds the part; the rest is handed on to the parts
//   gone   | -          | a fault is tried again; the agent's answer and write_protect mean nothing
//   parting| the answer | as gone, but revoke() waits for that answer too (acked only: the client unmaps it when it has answered)
#pragma once

#include <array>
#include <memory>

#include "pmfs/base/mutex.h"
#include "pmfs/fault/fault_around.h"
#include "pmfs/fault/sentinel.h"
#include "pmfs/fault/uffd.h"
#include "pmfs/fault/vma_table.h"
#include "pmfs/fs/block_run.h"
#include "pmfs/fs/inode_ref.h"

namespace pmfs::fault {

class Mapping;

struct VmaCommand {
  VmaKind kind = VmaKind::kSentinel;
  PageRange pages;
  uint64_t va = 0, bytes = 0, offset = 0;  // offset in the region or sentinel file
  std::shared_ptr<Mapping> mapping;
  std::shared_ptr<const void> keep;  // until it is answered; see PteHolder::revoke
  bool parting = false;
  uint64_t number = 0;    // of the mapping's commands
  int64_t posted_ns = 0;  // set by the agent
};

// A client's agent thread, as seen from the fault path.
class Agent {
 public:
  virtual ~Agent() = default;
  // Queues a command and returns its number; never waits. When the client has executed it, Mapping::vma_done is
  // called. LockRank::kAgent inside.
  virtual uint64_t post(VmaCommand c) = 0;
  // It could not take away what it was asked to: nothing but its death says that it is gone. It is fenced; `keep` is
  // kept until then.
  virtual void refused(std::shared_ptr<const void> keep) = 0;
  // The client's VMAs of the region are direct: all its life.
  virtual bool direct() const = 0;
  // Its VMAs are made of that many pages: the volume's unit where one PTE may map all of it. Constant.
  virtual Unit vma_unit() const = 0;
};

class Mapping : public PteHolder, public std::enable_shared_from_this<Mapping> {
 public:
  // kTakenOver: a client of a manager that died has it. Nobody knows what VMAs it consists of, and they may have PTEs: so
  // nothing is installed until put_back() has made all of it the sentinel, which takes those PTEs away. Until then the
  // inode counts it in foreign_ptes; for good, if it ends before that, as nobody can tell when the client unmaps.
  enum class Origin : uint8_t { kNew, kTakenOver };
  Mapping(uint64_t id, uint64_t va, PageRange pages, int prot, int32_t sentinel_fd, InodeRef inode,
          std::shared_ptr<Sentinel> sentinel, std::shared_ptr<Uffd> uffd, Agent& agent, Origin origin = Origin::kNew);
  ~Mapping() override;

  const uint64_t id;
  const uint64_t va;
  const PageRange pages;
  const int32_t sentinel_fd;  // the client's own number of it
  Inode& inode() const { return **inode_; }
  const InodeRef& inode_ref() const { return *inode_; }
  uint64_t va_of(Pgoff p) const { return va + (p - pages.first) * kBlockSize; }
  Pgoff pgoff_at(uint64_t address) const { return pages.first + ((address - va) >> kBlockShift); }
  uint64_t end_va() const { return va_of(pages.end); }
  FaultAround around;
  const bool direct;
  const Unit vma_unit;  // va and pages are multiples of it
  int prot() const { return prot_.load(std::memory_order_relaxed); }
  void set_prot(int prot) { prot_.store(prot, std::memory_order_relaxed); }  // of commands that are posted from now on

  enum class Installed : uint8_t {
    kDone,     // the thread goes on
    kAgent,    // the VMA has to be put in place first: the thread is woken when the agent has answered
    kRetry,    // the address space was changing
    kGone,     // there is nothing to install into any more
    kNoSpace,  // the region has no memory for the page
  };
  struct Outcome {
    Installed result = Installed::kDone;
    uint64_t pages = 0;     // that got a PTE
    bool neighbour = false;  // the page behind the faulting one had its PTE already
  };
  // Installs PTEs for `run`, whose entries are locked, from the faulting page `p` on. `protect`:
  // read-only (zero and unwritten blocks). `upgrade`: PTEs that are there become writable. Pages behind the
  // faulting one are a gift: where many of them have their PTEs already it gives up soon, a call for each costs more
  // than it brings.
  Outcome install(const BlockRun& run, Pgoff p, bool protect, bool upgrade, Region& region);

  bool write_protect(PageRange r) override;
  bool revoke(PageRange r, const std::shared_ptr<const void>& keep) override;
  // Posts the sentinel over all of it. When that is done the threads that wait in faults fault again.
  void put_back(std::shared_ptr<const void> keep = nullptr);
  // Acked mode. Has the agent map `run` directly, whose entries are locked and which starts at the faulting unit. Never kDone.
  Installed map_direct(const BlockRun& run, uint64_t* seq = nullptr);
  // Acked mode. The pages of `r`, excluded by the caller, read as zero and have no block: shows that, until drop_zeros.
  Outcome show_zeros(PageRange r);
  // Acked mode, before unmapped(): the client lets go of all of it, then unmaps it.
  void part();
  // A store by a client that may only load: SIGBUS, if it has not been SIGSEGV.
  void refuse_store(Pgoff p);
  // What waits for the answer to part(), if it never comes: now the caller's.
  std::vector<std::shared_ptr<const void>> end_parting();

  // The page is beyond the end of the file: gives the client the sentinel back, on which the kernel raises
  // SIGBUS. Wakes the thread if it is there already.
  void beyond_eof(Pgoff p);
  // The page can't be had (no space, I/O error): SIGBUS, until there is space again. False: it is so already, or gone.
  bool no_page(Pgoff p);
  // Maps existing extents ahead of their first fault, at most `max` of them. Returns the last command's number or 0.
  uint64_t map_ahead(const std::vector<FileExtent>& extents);
  // The agent has executed (err 0) or failed a command of this mapping.
  void vma_done(const VmaCommand& c, int err);
  void unmapped();  // when it returns nothing is being installed any more: the address may be another mapping's
  // It becomes two, left and right of `at`, which is inside. PTEs and VMAs stay as they are; the parts know as much of them.
  using Parts = std::array<std::shared_ptr<Mapping>, 2>;
  Parts split(Pgoff at, uint64_t left_id, uint64_t right_id);
  bool gone() const override { return gone_.load(std::memory_order_acquire); }

 private:
  Mapping(uint64_t id, PageRange part, const Mapping& of, const VmaTable& vmas, uint64_t last_command);
  uint64_t command(PageRange r, VmaKind kind, Pfn pfn, std::shared_ptr<const void> keep = nullptr, bool parting = false)
      REQUIRES(vma_mutex_);
  PageRange around_run(const FileExtent& e) const REQUIRES(vma_mutex_);
  void wake(PageRange r) { uffd_->wake(va_of(r.first), r.count() * kBlockSize); }

  const std::shared_ptr<const InodeRef> inode_;  // shared with the parts: a reference is not copied with a lock held
  const std::shared_ptr<Sentinel> sentinel_;  // kept for as long as the mapping uses it
  const std::shared_ptr<Uffd> uffd_;
  Agent& agent_;
  std::atomic<bool> gone_{false}, foreign_{false};
  std::atomic<unsigned> failures_{0};  // of the agent, in a row
  std::atomic<int> prot_;
  SharedMutex vma_mutex_{LockRank::kVma, "mapping vma"};
  VmaTable vmas_ GUARDED_BY(vma_mutex_);
  uint64_t last_command_ GUARDED_BY(vma_mutex_) = 0;
  Parts parts_ GUARDED_BY(vma_mutex_);  // null but in a split one
  bool parting_ GUARDED_BY(vma_mutex_) = false;
  std::vector<std::shared_ptr<const void>> parting_keeps_ GUARDED_BY(vma_mutex_);
};

}  // namespace pmfs::fault
