#include "tests/lib/fake_manager.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <climits>

namespace pmfs::test {
using namespace pmfs::proto;

namespace {

UniqueFd memory(const char* name, off_t size) {
  UniqueFd fd(memfd_create(name, MFD_CLOEXEC));
  if (!fd || ftruncate(fd.get(), size) != 0) throw std::runtime_error("memfd");
  return fd;
}

std::atomic<uint32_t>* low(std::atomic<uint64_t>* w) { return reinterpret_cast<std::atomic<uint32_t>*>(w); }

}  // namespace

FakeManager::FakeManager(Handler h, Welcome w, std::string subdir)
    : subdir_(std::move(subdir)), handler_(std::move(h)), welcome_(std::move(w)) {
  std::filesystem::create_directories(path());
  region_ = memory("region", 16 << 20);
  sigbus_ = memory("sigbus", 0);
  sentinel_ = memory("sentinel", 64 << 20);
  stop_.reset(eventfd(0, EFD_CLOEXEC));
  listen_.reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  UniqueFd dir(open(path().c_str(), O_PATH | O_CLOEXEC));
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s", dir.get(), kSocketName);
  if (bind(listen_.get(), reinterpret_cast<sockaddr*>(&a), sizeof a) != 0 || listen(listen_.get(), 8) != 0) {
    throw std::runtime_error("bind");
  }
  thread_ = std::thread([this] { run(); });
}

FakeManager::~FakeManager() {
  die();
}

void FakeManager::die() {
  stopping_ = true;
  const uint64_t one = 1;
  if (write(stop_.get(), &one, sizeof one) < 0) std::abort();
  if (thread_.joinable()) thread_.join();
  listen_.reset();
}

void FakeManager::run() {
  while (!stopping_) {
    pollfd p[2] = {{listen_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    if (poll(p, 2, -1) <= 0 || p[1].revents != 0) continue;
    UniqueFd s(accept4(listen_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (s && greet(s.get())) serve(s.get());
  }
}

bool FakeManager::greet(int socket) {
  ControlMessage m;
  if (recv_control(socket, &m).status != RecvStatus::kOk) return false;
  ring_fd_.reset(Ring::create_memfd());
  ring_ = std::make_unique<Ring>(ring_fd_.get());
  ring_->header().manager_sleeps = 1;
  doorbell_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  posted_ = 0;
  HelloReply r{};
  r.block_size = 4096;
  r.slots = kSlots;
  r.agent_slots = kAgentSlots;
  r.bounce_bytes = kBounceBytes;
  r.ring_bytes = RingLayout::kBytes;
  r.uffd_features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
                    UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_EVENT_REMAP;
  r.uffd_is_device = 1;
  UniqueFd device(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  const int fds[] = {device.get(), region_.get(), ring_fd_.get(), doorbell_.get(), sigbus_.get(), sigbus_.get()};
  size_t count = std::size(fds);
  if (welcome_) welcome_(r, &count);
  if (count == 0) {
    send_error(socket, m.header().seq, EACCES, "not you");
    return false;
  }
  send_message(socket, Control::kWelcome, m.header().seq, r, std::span(fds, count));
  if (recv_control(socket, &m).status != RecvStatus::kOk || m.type() != Control::kUffd || m.fd_count != 1) return false;
  uffd_ = std::move(m.fds[0]);
  return send_message(socket, Control::kOk, m.header().seq) == 0;
}

void FakeManager::serve(int socket) {
  RingHeader& h = ring_->header();
  for (;;) {
    while (scan()) {
    }
    h.manager_sleeps.store(1);
    if (scan()) continue;
    pollfd p[4] = {
        {socket, POLLIN, 0}, {doorbell_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}, {uffd_.get(), POLLIN, 0}};
    poll(p, 4, -1);
    h.manager_sleeps.store(0);
    if (p[2].revents != 0) return;
    if (p[1].revents != 0) {
      uint64_t n;
      if (read(doorbell_.get(), &n, sizeof n) > 0) doorbells += n;
    }
    if (p[3].revents != 0) {  // a REMAP event: the agent waits until it is read
      uffd_msg e;
      [[maybe_unused]] const ssize_t n = read(uffd_.get(), &e, sizeof e);
    }
    if (p[0].revents != 0) {
      ControlMessage m;
      if (recv_control(socket, &m).status != RecvStatus::kOk) return;
      const int fd = sentinel_.get();
      send_message(socket, Control::kSentinelFd, m.header().seq, ControlHeader{}, std::span(&fd, 1));
    }
  }
}

bool FakeManager::scan() {
  bool any = false;
  for (uint32_t i = 0; i < kSlots; ++i) {
    Slot& slot = ring_->slot(i);
    uint32_t s = slot.state.load();
    if ((s & ~kWaitingBit) != kPending) continue;
    while (!slot.state.compare_exchange_weak(s, kRunning | (s & kWaitingBit))) {
    }
    const Request request = slot.request;
    Reply reply{};
    if (handler_(request, ring_->bounce(i), reply)) {
      slot.reply = reply;
      if ((slot.state.exchange(kDone) & kWaitingBit) != 0) futex_wake(&slot.state, INT_MAX);
    }
    any = true;
  }
  return any;
}

uint64_t FakeManager::post(AgentOp op, uint64_t va, uint64_t length, uint64_t offset, int prot, int fd) {
  std::lock_guard l(post_mutex_);
  RingHeader& h = ring_->header();
  while (posted_ - h.agent_done.load() >= kAgentSlots) usleep(100);
  ++posted_;
  ring_->agent_slot(posted_) = {posted_, static_cast<uint32_t>(op), static_cast<uint32_t>(prot), va, length, offset,
                                fd,      -1};
  h.agent_posted.store(posted_);
  if (h.agent_sleeps.load() != 0) futex_wake(low(&h.agent_posted), 1);
  return posted_;
}

void FakeManager::wait_agent(uint64_t seq) {
  while (ring_->header().agent_done.load() < seq) usleep(100);
}

}  // namespace pmfs::test
