// Pagers: the threads that read the clients' userfaultfds and handle what they read.
//
// All pagers wait on one epoll set, edge-triggered: each new event wakes one of them, so that one client's second
// fault is handled while its first waits for a punch. No client can hold a pager: reads never block, and
// handling never waits for a client.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "pmfs/base/mutex.h"
#include "pmfs/fault/handler.h"

namespace pmfs::fault {

class Pagers {
 public:
  Pagers(FaultHandler& handler, unsigned threads);
  ~Pagers();
  void add(std::shared_ptr<Client> c);
  void remove(Client& c);

 private:
  void run();
  FaultHandler& handler_;
  UniqueFd epoll_, stop_event_;
  std::atomic<bool> stop_{false};
  SharedMutex mutex_{LockRank::kServer, "pagers"};
  std::unordered_map<uint64_t, std::shared_ptr<Client>> clients_ GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace pmfs::fault
