// Pagers: the threads that read the clients' userfaultfds and handle what they read.
//
// The common pagers wait on one epoll set, edge-triggered: each new event wakes one of them, so that one client's second
// fault is handled while its first waits for a punch. A client one thread of which faults on and on moves to a lane: a
// pager bound to the processor that thread runs on. The thread sleeps while its fault is answered, so the lane has the
// processor to itself, no other one has to be woken for it, and the others stay free for other work. It goes back when
// other threads of it fault too. No client can hold a pager: reads never block, handling never waits for a client, and
// who faults without an end gives way after a turn.
#pragma once

#include <atomic>
#include <map>
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
  struct Lane {
    UniqueFd epoll;
    std::thread thread;
  };
  void run(int epoll, int processor);
  void serve(const std::shared_ptr<Client>& c, int epoll);
  void follow(Client& c);
  void move(Client& c, int lane);
  int epoll_of(int lane) REQUIRES(mutex_);  // makes the lane; throws if that fails
  void watch(int epoll, const Client& c);

  FaultHandler& handler_;
  UniqueFd epoll_, stop_event_;
  std::atomic<bool> stop_{false};
  SharedMutex mutex_{LockRank::kServer, "pagers"};
  std::unordered_map<uint64_t, std::shared_ptr<Client>> clients_ GUARDED_BY(mutex_);
  std::map<int, Lane> lanes_ GUARDED_BY(mutex_);  // by processor; made when first used
  std::vector<std::thread> threads_;
};

}  // namespace pmfs::fault
