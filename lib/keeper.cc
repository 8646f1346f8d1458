#include "lib/keeper.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "lib/memory_calls.h"
#include "lib/spin.h"
#include "pmfs/base/error.h"
#include "pmfs/base/types.h"

namespace pmfs {

using proto::Control;

namespace {

constexpr int64_t kFirstWaitNs = 1'000'000, kLongestWaitNs = 250'000'000;
constexpr int64_t kAnswerNs = 30'000'000'000;  // a manager that takes longer to answer is given up; then it is tried anew
constexpr int64_t kJoinNs = 100'000'000;

int poll_for(pollfd* p, nfds_t n, int64_t ns) {
  timespec ts{ns / 1'000'000'000, ns % 1'000'000'000};
  return static_cast<int>(syscall(SYS_ppoll, p, n, ns < 0 ? nullptr : &ts, nullptr, 0));
}

}  // namespace

Keeper::Keeper(const Connection& c, int dir, const char* socket_name, const proto::Ring& ring, Agent& agent,
               Holdings& holdings, Link& link)
    : c_(c),
      ring_(ring),
      agent_(agent),
      holdings_(holdings),
      link_(link),
      stop_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!stop_event_) fail(errno, "no eventfd; out of file descriptors?");
  address_.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", dir, socket_name);
  path.copy(address_.sun_path, sizeof address_.sun_path - 1);
  thread_.start(entry, this, "pmfs-keeper");
}

Keeper::~Keeper() { stop(); }

void Keeper::stop() {
  stop_.store(true, std::memory_order_seq_cst);
  const uint64_t one = 1;
  while (thread_.running()) {
    [[maybe_unused]] const ssize_t n = write(stop_event_.get(), &one, sizeof one);
    thread_.join_for(kJoinNs);
  }
}

void* Keeper::entry(void* self) {
  static_cast<Keeper*>(self)->run();
  return nullptr;
}

// --- From here on: the keeper's thread. No malloc, no locks, no exceptions.

void Keeper::run() {
  while (wait_hangup()) {
    if (ring_.header().closed.load(std::memory_order_acquire) != 0) return agent_.declare_dead();
    link_.down_since_ns.store(monotonic_ns(), std::memory_order_seq_cst);
    proto::futex_wake(low_half(&ring_.header().agent_posted), INT_MAX);  // the manager may have died before it did so
    open_ends();
    for (int64_t wait = kFirstWaitNs; !attach(); wait = std::min(2 * wait, kLongestWaitNs)) {
      for (const int64_t until = monotonic_ns() + wait;;) {
        drop_events();
        if (stop_.load(std::memory_order_seq_cst)) return;
        const int64_t left = until - monotonic_ns();
        if (left <= 0) break;
        pollfd p[2] = {{stop_event_.get(), POLLIN, 0}, {c_.uffd.get(), POLLIN, 0}};
        poll_for(p, 2, left);
      }
    }
  }
}

bool Keeper::wait_hangup() {
  for (;;) {
    pollfd p[2] = {{c_.socket.get(), POLLRDHUP, 0}, {stop_event_.get(), POLLIN, 0}};
    poll_for(p, 2, -1);
    if (stop_.load(std::memory_order_seq_cst)) return false;
    if ((p[0].revents & (POLLHUP | POLLRDHUP | POLLERR | POLLNVAL)) != 0) return true;
  }
}

// Where a file ends is not known any more: the next manager may let it grow before it knows of us. So from now on a touch
// behind the end waits, as any other, until our new sentinels say what it is.
void Keeper::open_ends() const {
  holdings_.close();
  holdings_.files.for_each([](const HeldFile& f) {
    if (f.sentinel_fd >= 0) syscall(SYS_ftruncate, f.sentinel_fd, kMaxFileBytes);
  });
  holdings_.maps.for_each([](const HeldMap& m) { syscall(SYS_ftruncate, m.sentinel_fd, kMaxFileBytes); });
  holdings_.open();
}

void Keeper::drop_events() const {
  uffd_msg m[16];
  while (syscall(SYS_read, c_.uffd.get(), m, sizeof m) > 0) {
  }
}

// One message and its answer, which may be an error: false only if there is no use in going on.
template <class T>
bool Keeper::exchange(int socket, Control type, const T& message, std::span<const int> fds, proto::ControlMessage* m) {
  const uint32_t seq = ++seq_;
  if (proto::send_message(socket, type, seq, message, fds) != 0) return false;
  for (const int64_t until = monotonic_ns() + kAnswerNs;;) {
    pollfd p[2] = {{socket, POLLIN, 0}, {stop_event_.get(), POLLIN, 0}};
    poll_for(p, 2, std::max<int64_t>(until - monotonic_ns(), 0));
    if (stop_.load(std::memory_order_seq_cst)) return false;
    const proto::RecvResult r = proto::recv_control(socket, m);
    if (r.status == proto::RecvStatus::kOk) return m->header().seq == seq;
    if (r.status != proto::RecvStatus::kAgain || monotonic_ns() >= until) return false;
  }
}

bool Keeper::fits(const proto::HelloReply& r) const {
  const proto::HelloReply& was = c_.hello;
  return std::memcmp(r.volume_uuid, was.volume_uuid, sizeof r.volume_uuid) == 0 && r.block_size == was.block_size &&
         r.slots == was.slots && r.agent_slots == was.agent_slots && r.bounce_bytes == was.bounce_bytes &&
         r.ring_bytes == was.ring_bytes && r.acked == was.acked && r.map_sync == was.map_sync && (r.uffd_features & ~was.uffd_features) == 0;
}

bool Keeper::attach() {
  const proto::RingHeader& h = ring_.header();
  // The agent first does what the former manager has asked for; our events are read until then.
  if (h.agent_done.load(std::memory_order_seq_cst) != h.agent_posted.load(std::memory_order_seq_cst)) return false;
  UniqueFd s(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!s || connect(s.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof address_) != 0) return false;
  proto::ControlMessage m;
  proto::HelloRequest hello{};
  hello.flags = proto::kHelloReattach;
  const int ring = c_.ring.get();
  if (!exchange(s.get(), Control::kHello, hello, std::span(&ring, 1), &m)) return false;
  const auto reply = m.as<proto::HelloReply>(Control::kWelcome, proto::kWelcomeFds);
  if (!reply || !fits(*reply)) return false;
  const UniqueFd life = std::move(m.fds[5]);
  holdings_.close();
  dup3(m.fds[3].get(), c_.doorbell.get(), O_CLOEXEC);
  dup3(m.fds[4].get(), c_.sigbus.get(), O_CLOEXEC);
  const bool done = hand_over(s.get(), m);
  if (done) {
    fcntl(s.get(), F_SETFL, 0);  // blocking, as the first one was
    dup3(s.get(), c_.socket.get(), O_CLOEXEC);
    dup3(life.get(), c_.life.get(), O_CLOEXEC);  // from here on nobody takes us for a client that has not come back
    link_.epoch.store(reply->epoch, std::memory_order_seq_cst);
    link_.down_since_ns.store(0, std::memory_order_seq_cst);
  }
  holdings_.open();
  if (!done) return false;
  const uint64_t one = 1;  // for the requests that wait in the ring
  [[maybe_unused]] const long n = syscall(SYS_write, c_.doorbell.get(), &one, sizeof one);
  proto::futex_wake(&link_.epoch, INT_MAX);
  proto::futex_wake(low_half(&ring_.header().agent_done), INT_MAX);
  return true;
}

bool Keeper::hand_over(int socket, proto::ControlMessage& m) {
  const int uffd = c_.uffd.get();
  if (!exchange(socket, Control::kUffd, proto::ControlHeader{}, std::span(&uffd, 1), &m) || m.type() != Control::kOk)
    return false;
  bool ok = true;
  holdings_.files.for_each([&](HeldFile& f) { ok = ok && hand_over_file(socket, m, f); });
  holdings_.maps.for_each([&](HeldMap& map) { ok = ok && hand_over_map(socket, m, map); });
  return ok && exchange(socket, Control::kReattachDone, proto::ControlHeader{}, {}, &m) && m.type() == Control::kOk;
}

// The manager's new sentinel of a file takes the number of the old one, before the agent is told to map it.
bool Keeper::hand_over_file(int socket, proto::ControlMessage& m, HeldFile& f) {
  proto::ReattachFile r{};
  r.ino = f.ino;
  r.generation = f.generation;
  r.handle = f.handle;
  r.flags = f.flags;
  r.want_sentinel = f.sentinel_fd >= 0 ? 1 : 0;
  if (!exchange(socket, Control::kReattachFile, r, {}, &m)) return false;
  if (const auto e = m.as<proto::ErrorReply>(Control::kError)) return e->err == ESTALE;  // the manager knows that it is gone
  if (r.want_sentinel == 0) return m.type() == Control::kOk;
  return m.as<proto::ControlHeader>(Control::kSentinelFd, 1) && dup3(m.fds[0].get(), f.sentinel_fd, O_CLOEXEC) >= 0;
}

bool Keeper::hand_over_map(int socket, proto::ControlMessage& m, HeldMap& map) {
  proto::ReattachMap r{};
  r.ino = map.ino;
  r.generation = map.generation;
  r.id = map.id;
  r.va = map.va;
  r.offset = map.offset;
  r.length = map.length;
  r.prot = map.prot;
  r.sentinel_fd = map.sentinel_fd;
  if (!exchange(socket, Control::kReattachMap, r, {}, &m)) return false;
  if (const auto e = m.as<proto::ErrorReply>(Control::kError)) {
    if (e->err != ESTALE) return false;
    lose(map);
    return true;
  }
  return m.as<proto::ControlHeader>(Control::kSentinelFd, 1) && dup3(m.fds[0].get(), map.sentinel_fd, O_CLOEXEC) >= 0;
}

// The file is gone: every touch is a SIGBUS from now on, as of pages behind the end of a file, which these are.
void Keeper::lose(const HeldMap& map) const {
  void* va = reinterpret_cast<void*>(map.va);
  kernel::mmap(va, map.length, static_cast<int>(map.prot), MAP_SHARED | MAP_NORESERVE | MAP_FIXED, c_.sigbus.get(), kBlockSize);
  kernel::madvise(va, map.length, MADV_DONTFORK);
  uffdio_range range{map.va, map.length};
  ioctl(c_.uffd.get(), UFFDIO_WAKE, &range);
}

}  // namespace pmfs
