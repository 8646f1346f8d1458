#include "pmfs/fuse/halt_poll.h"

#include <cpuid.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <thread>

#include "pmfs/base/error.h"

namespace pmfs::fuse {

namespace {

// All idle processors will poll: what one program's requests are worth.
constexpr unsigned kMostProcessors = 8;

bool in_a_guest() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kHypervisor = 1u << 31;  // no processor sets it, every hypervisor does
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & kHypervisor) != 0;
}

}  // namespace

HaltPoll::HaltPoll(HaltPollWhen when, const char* device) {
  if (when == HaltPollWhen::kNever) return;
  if (when == HaltPollWhen::kAuto && (!in_a_guest() || std::thread::hardware_concurrency() > kMostProcessors)) return;
  device_ = UniqueFd(::open(device, O_WRONLY | O_CLOEXEC));  // no constraint yet
  if (!device_ && when == HaltPollWhen::kAlways) fail(errno, "mount option halt_poll=always: {}: {}", device, std::strerror(errno));
}

void HaltPoll::came(int64_t after_ns) {
  row_ = after_ns <= kLingerNs ? row_ + 1 : 0;
  if (row_ >= kTrain && !held_ && device_) set(kPoll);
}

void HaltPoll::linger(int fd, int64_t waited_ns) {
  if (!held_) return;
  if (waited_ns < kLingerNs) {
    pollfd p{fd, POLLIN, 0};
    const timespec rest{0, kLingerNs - waited_ns};
    if (::ppoll(&p, 1, &rest, nullptr) != 0) return;
  }
  give_up();
}

void HaltPoll::give_up() {
  if (held_) set(kNoConstraint);
}

void HaltPoll::set(int32_t latency_us) {
  held_ = latency_us == kPoll;
  if (::write(device_.get(), &latency_us, sizeof latency_us) == sizeof latency_us) return;
  device_.reset();  // and with it any constraint
  held_ = false;
}

}  // namespace pmfs::fuse
