// Workers: the threads that execute clients' requests. They share an edge-triggered epoll set over the sessions'
// doorbells; a worker that has served a session spins on its ring for a little while if its client tends to come
// back at once, and only one worker spins at a time. A client that always has more gives way after a turn of a millisecond (and
// the request that is under way then): its bell is rung for it, behind the bells of others.
//
// While a request is being executed manager_sleeps is set, so that a second thread of that client rings the bell
// and gets another worker.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "pmfs/server/dispatch.h"
#include "pmfs/server/session.h"

namespace pmfs::server {

class Workers {
 public:
  Workers(Dispatcher& dispatcher, unsigned threads);
  ~Workers();
  // Ends the threads, when each has answered the request that it executes; the others stay in the rings.
  void stop();
  void add(std::shared_ptr<Session> s);
  void remove(const Session& s);

 private:
  void run();
  void serve(Session& s);
  bool execute_pending(Session& s, int64_t until_ns);  // false: there was nothing

  Dispatcher& dispatcher_;
  UniqueFd epoll_, stop_event_;
  std::atomic<bool> stop_{false};
  std::atomic<int> spinning_{0};
  SharedMutex mutex_{LockRank::kServer, "workers"};
  std::unordered_map<uint64_t, std::shared_ptr<Session>> sessions_ GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace pmfs::server
