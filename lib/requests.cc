// Session: requests. A slot for each, the wait for its reply, the wait for the agent.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "lib/session.h"
#include "lib/spin.h"
#include "pmfs/base/error.h"

namespace pmfs {
namespace {

constexpr int64_t kRecheckNs = 1'000'000'000;  // sleepers look whether there is a manager this often
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

// --- slots

// Owns a claimed slot. When an exception (no manager) passes it, a request that nobody has begun is taken back; a slot
// that a manager may still write to is left to who claims it when the answer has come.
class Session::Lease {
 public:
  explicit Lease(Session& s) : s_(s), index_(s.claim_slot()) {}
  ~Lease() {
    uint32_t v = slot().state.load(std::memory_order_acquire);
    while ((v & ~proto::kWaitingBit) == proto::kPending &&
           !slot().state.compare_exchange_weak(v, proto::kFilling, std::memory_order_acq_rel)) {
    }
    if (state_of(slot()) == proto::kRunning) s_.abandoned_.fetch_or(1u << index_);
    else s_.release_slot(index_);
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
    const uint32_t seen = state.load(std::memory_order_relaxed), bit = 1u << index;
    uint32_t expected = proto::kFree;
    if (seen == proto::kDone && (abandoned_.load(std::memory_order_relaxed) & bit) != 0 &&
        (abandoned_.fetch_and(~bit) & bit) != 0) {
      expected = proto::kDone;  // answered after its thread had given up
    } else if (seen != proto::kFree) {
      continue;
    }
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
    if (given_up()) {
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

// How long a sleeper sleeps before it looks whether there is a manager.
int64_t Session::recheck_ns() const { return std::clamp<int64_t>(patience_ns_ / 4, 1'000'000, kRecheckNs); }

void Session::publish(uint32_t index) {
  ring_->slot(index).state.store(proto::kPending, std::memory_order_seq_cst);
  if (ring_->header().manager_sleeps.load(std::memory_order_seq_cst) == 0) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(c_.doorbell.get(), &one, sizeof one);  // EAGAIN: rung often enough
}

// Spins for as long as replies have been taking lately, but 200 us at most; a manager that has been slower is worth a
// sleep at once. After a few microseconds it yields between looks: the manager may need this very CPU.
bool Session::spin_for_reply(const proto::Slot& slot, int64_t begin) const {
  constexpr int64_t kLongest = 200'000, kYieldAfter = 4'000;
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
      if (given_up()) {
        if (state_of(slot) == proto::kDone) break;  // answered, then gone
        fail_gone(volume_);
      }
      if ((s & proto::kWaitingBit) == 0) {
        if (!slot.state.compare_exchange_strong(s, s | proto::kWaitingBit, std::memory_order_acq_rel)) continue;
        s |= proto::kWaitingBit;
      }
      proto::futex_wait(&slot.state, s, recheck_ns());
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
  proto::Reply reply;
  for (;;) {
    if (!in.empty()) std::memcpy(lease.bounce(), in.data(), in.size());
    lease.slot().request = request;
    publish(lease.index());
    wait_reply(lease.index());
    reply = lease.slot().reply;
    if (reply.err != ERESTART) break;
    lease.slot().state.store(proto::kFilling, std::memory_order_seq_cst);  // its manager died over it: once more
  }
  if (reply.agent_seq != 0) wait_agent(reply.agent_seq, reply.epoch);
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

// Commands of a manager that has died since are not waited for: they are hints, and the next one begins from scratch.
void Session::wait_agent(uint64_t seq, uint32_t of) {
  proto::RingHeader& h = ring_->header();
  for (int i = 0; i < 500; ++i) {
    if (h.agent_done.load(std::memory_order_acquire) >= seq) return;
    cpu_pause();
  }
  h.agent_waiters.fetch_add(1, std::memory_order_seq_cst);
  bool over = false;
  for (;;) {
    const uint64_t done = h.agent_done.load(std::memory_order_seq_cst);
    if (done >= seq || epoch() != of || (over = given_up())) break;
    proto::futex_wait(low_half(&h.agent_done), static_cast<uint32_t>(done), recheck_ns());
  }
  h.agent_waiters.fetch_sub(1, std::memory_order_seq_cst);
  if (over) fail_gone(volume_);
}

void Session::wait_agent_all() {
  proto::RingHeader& h = ring_->header();
  const uint64_t posted = h.agent_posted.load(std::memory_order_seq_cst);
  h.agent_waiters.fetch_add(1, std::memory_order_seq_cst);
  for (;;) {
    const uint64_t done = h.agent_done.load(std::memory_order_seq_cst);
    if (done >= posted || closed()) break;
    proto::futex_wait(low_half(&h.agent_done), static_cast<uint32_t>(done), recheck_ns());
  }
  h.agent_waiters.fetch_sub(1, std::memory_order_seq_cst);
}

bool Session::drain_agent() {
  if (lost_.load()) return true;
  if (!closed()) wait_agent_all();
  if (!closed()) return true;
  agent_->declare_dead();
  return agent_->wait_quiet();
}

}  // namespace pmfs
