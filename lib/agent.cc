#include "lib/agent.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "lib/memory_calls.h"
#include "lib/spin.h"
#include "pmfs/base/error.h"

namespace pmfs {
namespace {

constexpr int64_t kPollNs = 1'000'000'000;  // in case a wake-up was lost with the manager
constexpr int64_t kStuckNs = 3'000'000'000;
constexpr int64_t kJoinNs = 2'000'000;

int raw_ioctl(int fd, unsigned long request, void* arg) {
  return syscall(SYS_ioctl, fd, request, arg) == 0 ? 0 : errno;
}

// Far below where the kernel puts what it may put anywhere. There it would take the highest gap that is large enough, which
// may be one that the application has just unmapped and is about to fill by MAP_FIXED: what we make there would be
// replaced, and what we then move be the application's.
void* find_workshop() {
  constexpr uintptr_t kFarthest = uintptr_t{1} << 44, kNearest = uintptr_t{1} << 36, kAlign = uintptr_t{1} << 30;
  static std::atomic<uintptr_t> agents{0};  // each has a place of its own
  const uintptr_t nth = agents.fetch_add(1, std::memory_order_relaxed) % 16;
  const auto probe = [](uintptr_t at) {
    void* p = kernel::mmap(reinterpret_cast<void*>(at), kAlign, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return uintptr_t{0};
    kernel::munmap(p, kAlign);
    return reinterpret_cast<uintptr_t>(p);
  };
  const uintptr_t usual = probe(0);
  for (uintptr_t distance = kFarthest; distance >= kNearest; distance /= 4) {
    const uintptr_t below = distance + nth * (distance / 16);
    if (usual <= below) continue;
    const uintptr_t at = (usual - below) & ~(kAlign - 1);
    if (probe(at) == at) return reinterpret_cast<void*>(at);
  }
  return nullptr;  // little address space: wherever the kernel likes
}

}  // namespace

Agent::Agent(const proto::Ring& ring, Fds fds) : ring_(ring), fds_(fds), workshop_(find_workshop()) {
  thread_.start(entry, this, "pmfs-agent");
}

Agent::~Agent() {
  if (thread_.running()) stop();
}

void* Agent::entry(void* self) {
  static_cast<Agent*>(self)->run();
  return nullptr;
}

bool Agent::stop() {
  if (!thread_.running()) return true;
  stop_.store(true, std::memory_order_seq_cst);
  const int64_t deadline = monotonic_ns() + kStuckNs;
  for (;;) {
    proto::futex_wake(low_half(&ring_.header().agent_posted), INT_MAX);
    resume();
    if (thread_.join_for(kJoinNs)) return true;
    if (monotonic_ns() > deadline) {
      thread_.abandon();
      return false;
    }
  }
}

void Agent::forget() { thread_.forget(); }

void Agent::pause() {
  paused_.store(1, std::memory_order_seq_cst);
  const int64_t deadline = monotonic_ns() + kStuckNs;
  while (working_.load(std::memory_order_seq_cst) != 0 && monotonic_ns() < deadline) usleep(100);
}

void Agent::resume() {
  paused_.store(0, std::memory_order_seq_cst);
  proto::futex_wake(&paused_, INT_MAX);
}

bool Agent::wait_quiet() {
  const int64_t deadline = monotonic_ns() + kStuckNs;
  while (working_.load(std::memory_order_seq_cst) != 0) {
    if (monotonic_ns() > deadline) return false;
    usleep(100);
  }
  return true;
}

// Also runs on the agent thread: raw system calls only.
void Agent::declare_dead() {
  if (dead_.exchange(true, std::memory_order_seq_cst)) return;
  proto::RingHeader& h = ring_.header();
  h.closed.store(1, std::memory_order_seq_cst);
  for (uint32_t i = 0; i < proto::kSlots; ++i) proto::futex_wake(&ring_.slot(i).state, INT_MAX);
  proto::futex_wake(low_half(&h.agent_done), INT_MAX);
  proto::futex_wake(low_half(&h.agent_posted), INT_MAX);
}

// --- From here on: the agent thread. Raw system calls only, no malloc, no locks.

void Agent::run() {
  proto::RingHeader& h = ring_.header();
  uint64_t done = 0;  // of all managers
  while (!stop_.load(std::memory_order_seq_cst) && !dead()) {
    if (h.agent_posted.load(std::memory_order_seq_cst) == done) {
      if (!idle_step(done)) continue;
    }
    // Announce before looking at the reasons not to work: pause() and wait_quiet() look the other way round.
    working_.store(1, std::memory_order_seq_cst);
    if (paused_.load(std::memory_order_seq_cst) != 0) {
      working_.store(0, std::memory_order_seq_cst);
      proto::futex_wait(&paused_, 1, kPollNs);
      continue;
    }
    if (!stop_.load() && !dead() && h.closed.load() == 0) {
      proto::AgentCommand& slot = ring_.agent_slot(done + 1);
      slot.result = execute(slot);
      publish(++done);
    }
    working_.store(0, std::memory_order_seq_cst);
    if (h.closed.load(std::memory_order_relaxed) != 0) declare_dead();
  }
}

// Nothing is posted: waits. True when there is a command.
bool Agent::idle_step(uint64_t done) {
  proto::RingHeader& h = ring_.header();
  auto posted = [&] { return h.agent_posted.load(std::memory_order_seq_cst) != done; };
  if (done != 0) {  // commands come in bursts: look a moment longer
    for (int i = 0; i < 200; ++i) {
      if (posted()) return true;
      cpu_pause();
    }
  }
  h.agent_sleeps.store(1, std::memory_order_seq_cst);
  if (!posted() && !stop_.load(std::memory_order_seq_cst)) {
    proto::futex_wait(low_half(&h.agent_posted), static_cast<uint32_t>(done), kPollNs);
  }
  h.agent_sleeps.store(0, std::memory_order_seq_cst);
  if (h.closed.load() != 0) declare_dead();
  return posted();
}

int Agent::execute(const proto::AgentCommand& c) {
  constexpr uint64_t kGated =
      UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP;
  switch (static_cast<proto::AgentOp>(c.op)) {
    case proto::AgentOp::kNone: return 0;
    case proto::AgentOp::kMapRegion: return map_into_place(c, fds_.region, kGated);
    case proto::AgentOp::kMapSentinel: return map_into_place(c, c.fd, fds_.sentinel_mode);
    case proto::AgentOp::kMapSigbus: return map_into_place(c, fds_.sigbus, UFFDIO_REGISTER_MODE_MISSING);
    case proto::AgentOp::kMapDirect: return map_into_place(c, fds_.region, 0);
  }
  return EINVAL;
}

// Mapped elsewhere, registered, then moved over the target in one step: the target never shows a mapping whose
// faults the kernel would resolve on its own, but for direct ones (mode 0), which are for that.
int Agent::map_into_place(const proto::AgentCommand& c, int fd, uint64_t mode) {
  const int how = mode == 0 && fds_.map_sync ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED | MAP_NORESERVE;
  const long tmp = syscall(SYS_mmap, workshop_, c.length, c.prot, how, fd, c.region_offset);
  if (tmp == -1) return errno;
  int err = 0;
  if (syscall(SYS_madvise, tmp, c.length, MADV_DONTFORK) != 0) err = errno;
  // A zap need not tell the page cache which pages were used: there is no reclaim to mislead (vma_has_recency()).
  syscall(SYS_madvise, tmp, c.length, MADV_RANDOM);
  if (err == 0 && mode != 0) {
    uffdio_register reg{};
    reg.range.start = static_cast<uint64_t>(tmp);
    reg.range.len = c.length;
    reg.mode = mode;
    err = raw_ioctl(fds_.uffd, UFFDIO_REGISTER, &reg);
  }
  if (err == 0) {
    const long at = syscall(SYS_mremap, tmp, c.length, c.length, MREMAP_MAYMOVE | MREMAP_FIXED, c.va);
    if (at != -1) return 0;
    err = errno;
  }
  syscall(SYS_munmap, tmp, c.length);
  return err;
}

void Agent::publish(uint64_t seq) {
  proto::RingHeader& h = ring_.header();
  h.agent_done.store(seq, std::memory_order_seq_cst);
  if (h.manager_sleeps.load(std::memory_order_seq_cst) != 0) {
    const uint64_t one = 1;
    [[maybe_unused]] const long n = syscall(SYS_write, fds_.doorbell, &one, sizeof one);
  }
  if (h.agent_waiters.load(std::memory_order_seq_cst) != 0) proto::futex_wake(low_half(&h.agent_done), INT_MAX);
}

}  // namespace pmfs
