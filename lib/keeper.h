// The keeper thread: notices that the manager has died, and hands what this process holds over to the next one.
//
//   state      | left when                                         | to
//   connected  | the manager's end of the socket is closed         | down (or over, if the ring says closed)
//   down       | a manager serves the volume again and takes over  | connected
//   over       | never: the manager has ended the session itself
//
// While it is down it tries again and again, after 1 ms at first and every 250 ms later, for as long as the process lives:
// faults wait for that. It also reads (and drops) what comes out of the userfaultfd, as otherwise the agent could hang in
// an mremap that no manager will ever hear of. Threads that wait for a dropped fault are woken by the next manager.
//
// A RawThread: see there what it may not do.
#pragma once

#include <sys/un.h>

#include <atomic>
#include <cstdint>

#include "lib/agent.h"
#include "lib/connect.h"
#include "lib/holdings.h"
#include "lib/raw_thread.h"
#include "pmfs/base/unique_fd.h"
#include "pmfs/proto/control.h"
#include "pmfs/proto/ring.h"

namespace pmfs {

// Written by the keeper, with the gate of the holdings closed.
struct Link {
  std::atomic<uint32_t> epoch{0};           // of the manager; a futex word
  std::atomic<int64_t> down_since_ns{0};    // CLOCK_MONOTONIC; 0: connected
};

class Keeper {
 public:
  // The fds of `c` keep their numbers: those of the next manager take their places by dup3(). All must outlive the thread.
  Keeper(const Connection& c, int dir, const char* socket_name, const proto::Ring& ring, Agent& agent, Holdings& holdings, Link& link);
  ~Keeper();
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  void stop();
  void forget() { thread_.forget(); }  // in a forked child

 private:
  static void* entry(void* self);
  void run();
  bool wait_hangup();
  void drop_events() const;
  void open_ends() const;
  bool attach();
  bool hand_over(int socket, proto::ControlMessage& m);
  bool hand_over_file(int socket, proto::ControlMessage& m, HeldFile& f);
  bool hand_over_map(int socket, proto::ControlMessage& m, HeldMap& map);
  void lose(const HeldMap& map) const;
  template <class T>
  bool exchange(int socket, proto::Control type, const T& message, std::span<const int> fds, proto::ControlMessage* m);
  bool fits(const proto::HelloReply& r) const;

  const Connection& c_;
  const proto::Ring& ring_;
  Agent& agent_;
  Holdings& holdings_;
  Link& link_;
  sockaddr_un address_{};
  UniqueFd stop_event_;
  std::atomic<bool> stop_{false};
  uint32_t seq_ = 0;
  RawThread thread_;
};

}  // namespace pmfs
