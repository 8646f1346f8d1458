// Client: the fault side of one session: its userfaultfd, its mappings and what was counted of it.
#pragma once

#include <map>
#include <memory>

#include "pmfs/base/mutex.h"
#include "pmfs/base/stats.h"
#include "pmfs/fault/mapping.h"
#include "pmfs/fault/stream.h"
#include "pmfs/fault/uffd.h"

namespace pmfs::fault {

class Client {
 public:
  explicit Client(uint64_t client_id) : id(client_id) {}

  const uint64_t id;
  SigbusPage sigbus_page;
  Counter faults, installs;
  bool read_only = false;  // set once, as uffd
  // It is handing over its mappings: an address that none of them has is not a stray one yet.
  std::atomic<bool> reattaching{false};
  std::atomic<bool> starved{false};  // some page of it shows SIGBUS for want of space

  Stream stream;                        // the pagers' own, as is the next
  static constexpr int kNoLane = -1;
  std::atomic<int> lane{kNoLane};       // the processor of the pager that serves it; changed under the pagers' mutex

  // Set once, before the pagers know of the client.
  void set_uffd(std::shared_ptr<Uffd> u) { uffd_ = std::move(u); }
  const std::shared_ptr<Uffd>& uffd() const { return uffd_; }

  // Throws Error(EINVAL) if it overlaps another mapping of this client.
  void add(std::shared_ptr<Mapping> m);
  std::shared_ptr<Mapping> find(uint64_t address) const;
  std::shared_ptr<Mapping> remove(uint64_t mapping_id);  // null: no such mapping
  std::shared_ptr<Mapping> remove_at(uint64_t va);           // the same by first address
  // The mapping that begins at `address`, after the one that has it inside was split there; and what is left of it,
  // null if there was nothing to split. Throws Error(ENOENT, ENOMEM).
  struct Halves {
    std::shared_ptr<Mapping> left, right;
  };
  Halves split(uint64_t address, uint64_t left_id, uint64_t right_id);
  std::map<uint64_t, std::shared_ptr<Mapping>> remove_all();
  std::vector<std::shared_ptr<Mapping>> mappings() const;
  // A fault where find() finds none. True: one of many in a row, so not one that was late and is over, as its mapping is.
  bool stray() { return strays_.fetch_add(1, std::memory_order_relaxed) >= kStrays; }
  void found() {
    if (strays_.load(std::memory_order_relaxed) != 0) strays_.store(0, std::memory_order_relaxed);
  }
  static constexpr unsigned kStrays = 64;

 private:
  std::atomic<unsigned> strays_{0};
  std::shared_ptr<Uffd> uffd_;
  mutable SharedMutex maps_mutex_{LockRank::kSessionMaps, "client mappings"};
  std::map<uint64_t, std::shared_ptr<Mapping>> maps_ GUARDED_BY(maps_mutex_);  // by first address
};

}  // namespace pmfs::fault
