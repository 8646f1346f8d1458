// The agent thread: executes the manager's VMA commands for this process, strictly in order.
//
//   state     | left when                                   | to
//   sleeping  | a command is posted, stop() or 1 s passed    | working / sleeping
//   working   | the command's result is published            | sleeping
//   paused    | resume() (fork: no VMA half made)            | sleeping
//   dead      | never: the session is over or stop() was called; no command is executed any more
//
// A manager that dies changes nothing here: what it has posted is executed, and the next one goes on in the same ring.
// A RawThread: see there what it may not do.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "lib/raw_thread.h"
#include "pmfs/proto/ring.h"

namespace pmfs {

class Agent {
 public:
  struct Fds {
    int uffd, region, sigbus, doorbell;
    bool map_sync = false;        // of the region
    uint64_t sentinel_mode = 0;   // UFFDIO_REGISTER_MODE_ bits
  };
  // The ring and the fds must outlive the thread. Throws Error.
  Agent(const proto::Ring& ring, Fds fds);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Ends the thread. False if it hangs in the kernel (moving a mapping, with the manager stopped): then this object,
  // the ring and the fds must be leaked, not destroyed.
  bool stop();
  // The session is over: wakes every waiter of the ring. Idempotent.
  void declare_dead();
  bool dead() const { return dead_.load(std::memory_order_acquire); }
  // After the session's end: true when no command is being executed and none ever will be.
  bool wait_quiet();
  // Around fork(). pause() returns with no command half executed (or stuck behind its last VMA change).
  void pause();
  void resume();
  // In the child, where the thread does not exist: frees the stack. The object is then only to be destroyed.
  void forget();

 private:
  static void* entry(void* self);
  void run();
  bool idle_step(uint64_t done);
  int execute(const proto::AgentCommand& c);
  int map_into_place(const proto::AgentCommand& c, int fd, uint64_t mode);
  void publish(uint64_t seq);

  const proto::Ring& ring_;
  const Fds fds_;
  void* const workshop_;  // where VMAs are made before they are moved into place: a hint
  RawThread thread_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> dead_{false};
  std::atomic<uint32_t> working_{0};  // 1 while a command is executed (futex-free: watched by polling)
  std::atomic<uint32_t> paused_{0};   // futex word
};

}  // namespace pmfs
