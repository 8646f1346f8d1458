// HaltPoll: while requests come in trains, idle processors poll instead of halting.
//
// Who asks sleeps until it is answered, and its processor with it. In a guest a processor that has halted is woken through the
// hypervisor, which takes longer than all else about a short request (docs/benchmarks.md); one that polls while it is idle
// sees a store. What the kernel has for that is a constraint on processors' latency, of whoever has /dev/cpu_dma_latency
// open, in microseconds; with 0 they poll (Documentation/power/pm_qos_interface.rst; drivers/cpuidle/governors/haltpoll.c,
// menu.c). A kernel without a cpuidle driver (/sys/devices/system/cpu/cpuidle/current_driver: none) halts all the same. The
// constraint is the machine's, so it is asked for only in trains, for as long after one as the kernel's own guest_halt_poll_ns
// has it, and gone with the process.
//
//   train: kTrain requests in a row, each within kLingerNs after its reader began to wait
//
// One thread at a time: the reader of a RequestLoop.
#pragma once

#include <cstdint>

#include "pmfs/base/unique_fd.h"
#include "pmfs/fuse/mount_options.h"

namespace pmfs::fuse {

class HaltPoll {
 public:
  static constexpr int64_t kLingerNs = 200'000;
  static constexpr unsigned kTrain = 16;
  static constexpr int32_t kPoll = 0, kNoConstraint = 2'000'000'000;  // us; the second is PM_QOS_DEFAULT_VALUE

  // Not for HaltPollWhen::kNever; kAuto: in a guest of no more than eight processors, where the device can be opened. Throws
  // Error, the errno of open(): kAlways, and it can't be.
  explicit HaltPoll(HaltPollWhen when, const char* device = "/dev/cpu_dma_latency");

  // A request has come, `after_ns` after its reader began to wait.
  void came(int64_t after_ns);
  // Before a wait without an end, `waited_ns` after the reader began to: returns when `fd` is readable, a signal comes, or
  // the constraint is given up. At once if there is none.
  void linger(int fd, int64_t waited_ns);
  void give_up();
  bool held() const { return held_; }

 private:
  void set(int32_t latency_us);
  UniqueFd device_;
  unsigned row_ = 0;
  bool held_ = false;
};

}  // namespace pmfs::fuse
