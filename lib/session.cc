#include "lib/session.h"

#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <filesystem>

#include "lib/fork.h"
#include "lib/mapping.h"
#include "lib/persist.h"
#include "lib/spin.h"
#include "pmfs/base/error.h"
#include "pmfs/proto/control.h"

namespace pmfs {
namespace {

constexpr int64_t kRecheckNs = 1'000'000'000;  // sleepers look for a dead manager this often
constexpr uint32_t kNoSlot = UINT32_MAX;

thread_local uint32_t t_slot_hint = [] {
  static std::atomic<uint32_t> next{0};
  return next.fetch_add(5, std::memory_order_relaxed) % proto::kSlots;
}();

uint32_t state_of(const proto::Slot& slot) {
  return slot.state.load(std::memory_order_acquire) & ~proto::kWaitingBit;
}

}  // namespace

proto::Request make_request(proto::Op op, uint32_t handle) {
  proto::Request r{};
  r.op = static_cast<uint16_t>(op);
  r.version = proto::kVersion;
  r.handle = handle;
  return r;
}

// --- life

std::shared_ptr<Session> Session::connect(const std::string& volume) {
  choose_persist_functions();
  ForkGate::Pass pass;
  std::shared_ptr<Session> s(new Session(volume));
  s->start(0);
  register_session(s.get());
  return s;
}

Session::Session(const std::string& volume) : dir_(open_volume_dir(volume)) {
  volume_ = std::filesystem::absolute(volume).lexically_normal().string();
}

void Session::start(uint64_t token) {
  Connection c = connect_manager(dir_.get(), volume_, token);
  auto ring = std::make_unique<proto::Ring>(c.ring.get());
  // A child must not see the parent's ring, not even one made by a raw clone() that skips the fork handlers.
  if (madvise(ring->base(), proto::RingLayout::kBytes, MADV_DONTFORK) != 0) {
    fail(errno, "can't keep the ring of {} from child processes", volume_);
  }
  agent_ = std::make_unique<Agent>(
      *ring, Agent::Fds{c.socket.get(), c.uffd.get(), c.region.get(), c.sigbus.get(), c.doorbell.get()});
  c_ = std::move(c);
  ring_ = std::move(ring);
}

Session::~Session() {
  ForkGate::Pass pass;
  unregister_session(this);
  if (!agent_ || agent_->stop()) return;
  // The agent hangs in the kernel on a stopped manager. What it uses must stay.
  static_cast<void>(agent_.release());
  static_cast<void>(ring_.release());
  for (UniqueFd* fd : {&c_.socket, &c_.uffd, &c_.region, &c_.ring, &c_.doorbell, &c_.sigbus}) fd->release();
}

bool Session::closed() const {
  return lost_.load(std::memory_order_acquire) || agent_->dead() ||
         ring_->header().closed.load(std::memory_order_acquire) != 0;
}

void Session::check_open() const {
  if (closed()) fail_gone(volume_);
}

uint32_t Session::agent_backlog() const {
  if (closed()) return 0;
  const proto::RingHeader& h = ring_->header();
  return static_cast<uint32_t>(h.agent_posted.load() - h.agent_done.load());
}

// --- slots

// Owns a claimed slot. When an exception (the session is over) passes a slot that the manager may still write to,
// the slot is not given back.
class Session::Lease {
 public:
  explicit Lease(Session& s) : s_(s), index_(s.claim_slot()) {}
  ~Lease() {
    if (state_of(slot()) == proto::kFilling || state_of(slot()) == proto::kDone) s_.release_slot(index_);
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  uint32_t index() const { return index_; }
  proto::Slot& slot() const { return s_.ring_->slot(index_); }
  std::byte* bounce() const { return s_.ring_->bounce(index_); }

 private:
  Session& s_;
  const uint32_t index_;
};

uint32_t Session::try_claim() {
  for (uint32_t i = 0; i < proto::kSlots; ++i) {
    const uint32_t index = (t_slot_hint + i) % proto::kSlots;
    std::atomic<uint32_t>& state = ring_->slot(index).state;
    uint32_t expected = proto::kFree;
    if (state.load(std::memory_order_relaxed) != proto::kFree) continue;
    if (state.compare_exchange_strong(expected, proto::kFilling, std::memory_order_acquire)) {
      t_slot_hint = index;
      return index;
    }
  }
  return kNoSlot;
}

uint32_t Session::claim_slot() {
  check_open();
  if (turn_.load(std::memory_order_seq_cst) == turn_next_.load(std::memory_order_seq_cst)) {  // nobody waits
    if (const uint32_t index = try_claim(); index != kNoSlot) return index;
  }
  const uint32_t ticket = turn_next_.fetch_add(1, std::memory_order_seq_cst);
  auto next_turn = [&] {
    turn_.fetch_add(1, std::memory_order_seq_cst);
    proto::futex_wake(&turn_, INT_MAX);
  };
  uint32_t now;
  while ((now = turn_.load(std::memory_order_seq_cst)) != ticket) proto::futex_wait(&turn_, now, kRecheckNs);
  for (;;) {
    const uint32_t freed = freed_.load(std::memory_order_seq_cst);
    const uint32_t index = try_claim();
    if (index != kNoSlot) {
      next_turn();
      return index;
    }
    if (closed() || agent_->check_hangup()) {
      next_turn();
      fail_gone(volume_);
    }
    proto::futex_wait(&freed_, freed, kRecheckNs);
  }
}

void Session::release_slot(uint32_t index) {
  ring_->slot(index).state.store(proto::kFree, std::memory_order_seq_cst);
  if (turn_.load(std::memory_order_seq_cst) != turn_next_.load(std::memory_order_seq_cst)) {
    freed_.fetch_add(1, std::memory_order_seq_cst);
    proto::futex_wake(&freed_, 1);
  }
}

// --- requests

void Session::publish(uint32_t index) {
  ring_->slot(index).state.store(proto::kPending, std::memory_order_seq_cst);
  if (ring_->header().manager_sleeps.load(std::memory_order_seq_cst) == 0) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(c_.doorbell.get(), &one, sizeof one);  // EAGAIN: rung often enough
}

// Spins for as long as replies have been taking lately, but 50 us at most; a manager that has been slower is worth a
// sleep at once. After a few microseconds it yields between looks: the manager may need this very CPU.
bool Session::spin_for_reply(const proto::Slot& slot, int64_t begin) const {
  constexpr int64_t kLongest = 50'000, kYieldAfter = 4'000;
  const int64_t average = average_ns_.load(std::memory_order_relaxed);
  if (average > kLongest && probe_.load(std::memory_order_relaxed) % 32 != 0) return false;
  const int64_t limit = std::min(kLongest, 2 * average + 2'000);
  for (;;) {
    for (int i = 0; i < 32; ++i) {
      if (state_of(slot) == proto::kDone) return true;
      cpu_pause();
    }
    const int64_t spent = monotonic_ns() - begin;
    if (spent > limit) return false;
    if (spent > kYieldAfter) sched_yield();
  }
}

void Session::wait_reply(uint32_t index) {
  proto::Slot& slot = ring_->slot(index);
  const int64_t begin = monotonic_ns();
  if (!spin_for_reply(slot, begin)) {
    for (;;) {
      uint32_t s = slot.state.load(std::memory_order_acquire);
      if ((s & ~proto::kWaitingBit) == proto::kDone) break;
      if (closed()) {
        if (state_of(slot) == proto::kDone) break;  // answered, then gone
        fail_gone(volume_);
      }
      if ((s & proto::kWaitingBit) == 0) {
        if (!slot.state.compare_exchange_strong(s, s | proto::kWaitingBit, std::memory_order_acq_rel)) continue;
        s |= proto::kWaitingBit;
      }
      const int64_t asleep = monotonic_ns();
      proto::futex_wait(&slot.state, s, kRecheckNs);
      if (monotonic_ns() - asleep >= kRecheckNs) agent_->check_hangup();
    }
  }
  const int64_t spent = std::min<int64_t>(monotonic_ns() - begin, 1'000'000);
  const int64_t average = average_ns_.load(std::memory_order_relaxed);
  average_ns_.store(static_cast<uint32_t>(average + (spent - average) / 8), std::memory_order_relaxed);
  probe_.fetch_add(1, std::memory_order_relaxed);
}

proto::Reply Session::call(const proto::Request& request, std::span<const std::byte> in, const Out& out) {
  if (in.size() > proto::kBounceBytes) fail(EINVAL, "a request of {} bytes doesn't fit a slot", in.size());
  Lease lease(*this);
  if (!in.empty()) std::memcpy(lease.bounce(), in.data(), in.size());
  lease.slot().request = request;
  publish(lease.index());
  wait_reply(lease.index());
  const proto::Reply reply = lease.slot().reply;
  if (reply.agent_seq != 0) wait_agent(reply.agent_seq);
  if (reply.err != 0) {
    const size_t n = std::min<size_t>(reply.message_len, proto::kBounceBytes);
    throw Error(reply.err, std::string(reinterpret_cast<const char*>(lease.bounce()), n));
  }
  if (out) out(reply, {lease.bounce(), proto::kBounceBytes});
  return reply;
}

proto::Reply Session::call_path(proto::Request request, std::string_view path1, std::string_view path2,
                                const Out& out) {
  for (std::string_view p : {path1, path2}) {
    if (p.size() > proto::kMaxPath) fail(ENAMETOOLONG, "a path of {} bytes; at most {}", p.size(), proto::kMaxPath);
    if (p.find('\0') != std::string_view::npos) fail(EINVAL, "a path with a NUL byte");
  }
  request.path1_len = static_cast<uint16_t>(path1.size());
  request.path2_len = static_cast<uint16_t>(path2.size());
  std::string both(path1);
  both += path2;
  return call(request, std::as_bytes(std::span(both)), out);
}

// --- the agent, seen from the requests

void Session::wait_agent(uint64_t seq) {
  proto::RingHeader& h = ring_->header();
  for (int i = 0; i < 500; ++i) {
    if (h.agent_done.load(std::memory_order_acquire) >= seq) return;
    cpu_pause();
  }
  h.agent_waiters.fetch_add(1, std::memory_order_seq_cst);
  bool over = false;
  for (;;) {
    const uint64_t done = h.agent_done.load(std::memory_order_seq_cst);
    if (done >= seq || (over = closed())) break;
    const int64_t asleep = monotonic_ns();
    proto::futex_wait(low_half(&h.agent_done), static_cast<uint32_t>(done), kRecheckNs);
    if (monotonic_ns() - asleep >= kRecheckNs) agent_->check_hangup();
  }
  h.agent_waiters.fetch_sub(1, std::memory_order_seq_cst);
  if (over) fail_gone(volume_);
}

bool Session::drain_agent() {
  if (lost_.load()) return true;
  try {
    if (!closed()) wait_agent(ring_->header().agent_posted.load(std::memory_order_seq_cst));
    if (!closed()) return true;
  } catch (const Error&) {  // the session ended meanwhile
  }
  agent_->declare_dead();
  return agent_->wait_quiet();
}

// --- sentinels

void Session::note_open(uint32_t handle) {
  MutexLock l(table_mutex_);
  handles_[handle] = nullptr;
}

void Session::note_close(uint32_t handle) {
  std::shared_ptr<Sentinel> dropped;  // closed outside the lock
  MutexLock l(table_mutex_);
  const auto it = handles_.find(handle);
  if (it == handles_.end()) return;
  dropped = std::move(it->second);
  handles_.erase(it);
}

UniqueFd Session::fetch_sentinel(uint32_t handle) {
  MutexLock l(socket_mutex_);
  check_open();
  proto::SentinelRequest request{};
  request.handle = handle;
  const uint32_t seq = ++control_seq_;
  const int err = proto::send_message(c_.socket.get(), proto::Control::kSentinel, seq, request);
  if (err == EPIPE || err == ECONNRESET) fail_gone(volume_);
  if (err != 0) fail(err, "can't ask the manager of {} for a file's sentinel", volume_);
  for (;;) {
    proto::ControlMessage m;
    const proto::RecvResult r = proto::recv_control(c_.socket.get(), &m);
    if (r.status == proto::RecvStatus::kEof) fail_gone(volume_);
    if (r.status == proto::RecvStatus::kError) fail(r.err, "can't receive from the manager of {}", volume_);
    if (r.status != proto::RecvStatus::kOk) fail(EPROTO, "a bad message from the manager of {}", volume_);
    if (m.header().seq != seq) continue;  // the late answer of an exchange that failed
    if (auto e = m.as<proto::ErrorReply>(proto::Control::kError)) {
      e->message[sizeof e->message - 1] = '\0';
      throw Error(e->err, e->message);
    }
    if (!m.as<proto::ControlHeader>(proto::Control::kSentinelFd, 1)) {
      fail(EPROTO, "a bad sentinel from the manager of {}", volume_);
    }
    return std::move(m.fds[0]);
  }
}

std::shared_ptr<Sentinel> Session::sentinel(uint32_t handle) {
  {
    MutexLock l(table_mutex_);
    const auto it = handles_.find(handle);
    if (it == handles_.end()) fail(EBADF, "the file is closed");
    if (it->second) return it->second;
  }
  auto s = std::make_shared<Sentinel>(Sentinel{fetch_sentinel(handle)});
  struct stat st {};
  if (fstat(s->fd.get(), &st) != 0) fail(errno, "can't look at a sentinel");
  MutexLock l(table_mutex_);
  std::erase_if(sentinels_, [](const auto& e) { return e.second.expired(); });
  auto& known = sentinels_[st.st_ino];
  if (auto same = known.lock()) {
    s.swap(same);  // by another handle of the file: one fd is enough
  } else {
    known = s;
  }
  if (const auto it = handles_.find(handle); it != handles_.end()) it->second = s;
  return s;
}

// --- fork

void Session::prepare_fork() {
  fork_token_ = 0;
  if (closed()) return;
  try {
    fork_token_ = call(make_request(proto::Op::kForkPrepare)).v0;
  } catch (const Error&) {  // the child's session will be a lost one
  }
  agent_->pause();
}

void Session::resume_in_parent() {
  if (!lost_.load()) agent_->resume();
}

void Session::drop_inherited() {
  // The ring is not mapped here (MADV_DONTFORK): its address may belong to anybody, so its object is never destroyed.
  static std::vector<proto::Ring*>* graveyard = new std::vector<proto::Ring*>;
  graveyard->push_back(ring_.release());
  if (agent_) agent_->forget();
  agent_.reset();
  c_ = Connection{};
  average_ns_ = 5000;
  turn_next_ = turn_ = freed_ = 0;
  MutexLock l(table_mutex_);
  sentinels_.clear();
  for (auto& [handle, s] : handles_) {
    if (s) s->fd.reset();  // the parent's
    s = nullptr;
  }
}

void Session::reattach_in_child() {
  if (lost_.exchange(true) || fork_token_ == 0) return;
  try {
    start(fork_token_);
    lost_ = false;
    const std::vector<uint32_t> borrowed = restore_mappings(*this);
    for (uint32_t handle : borrowed) {
      {
        MutexLock l(table_mutex_);
        if (handles_.contains(handle)) continue;
      }
      call(make_request(proto::Op::kClose, handle));  // of a file that was closed, but for its mappings
    }
  } catch (const Error&) {
    lost_ = true;
    if (agent_ && !agent_->stop()) static_cast<void>(agent_.release());
  }
  fork_token_ = 0;
}

}  // namespace pmfs
