// Session: its life, sentinels and forks. Requests are in requests.cc.
#include "lib/session.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "lib/fork.h"
#include "lib/mapping.h"
#include "lib/memory_calls.h"
#include "lib/persist.h"
#include "lib/spin.h"
#include "pmfs/base/error.h"
#include "pmfs/base/same_file.h"
#include "pmfs/proto/control.h"

namespace pmfs {
namespace {
constexpr useconds_t kHangupUs = 1000;  // until the keeper has seen a hang-up too
}

// --- life

std::shared_ptr<Session> Session::connect(const std::string& volume, Access access) {
  choose_persist_functions();
  ForkGate::Pass pass;
  std::shared_ptr<Session> s(new Session(volume, access));
  s->start(0);
  s->keep();
  register_session(s.get());
  return s;
}

Session::Session(const std::string& volume, Access access) : access_(access), dir_(open_volume_dir(volume)) {
  volume_ = std::filesystem::absolute(volume).lexically_normal().string();
  constexpr int64_t kDefaultMs = 10'000;
  const char* ms = std::getenv("PMFS_PATIENCE_MS");
  patience_ns_ = (ms != nullptr ? std::max<int64_t>(std::strtoll(ms, nullptr, 10), 0) : kDefaultMs) * 1'000'000;
}

void Session::start(uint64_t token, uint64_t flags) {
  Connection c = connect_manager(dir_.get(), volume_, access_, token, flags);
  auto ring = std::make_unique<proto::Ring>(c.ring.get());
  // A child must not see the parent's ring, not even one made by a raw clone() that skips the fork handlers.
  if (kernel::madvise(ring->base(), proto::RingLayout::kBytes, MADV_DONTFORK) != 0) {
    fail(errno, "can't keep the ring of {} from child processes", volume_);
  }
  agent_ = std::make_unique<Agent>(*ring, Agent::Fds{c.uffd.get(), c.region.get(), c.sigbus.get(), c.doorbell.get(),
                                                               c.hello.map_sync != 0, sentinel_mode(c.hello)});
  c_ = std::move(c);
  ring_ = std::move(ring);
  link_.epoch = c_.hello.epoch;
  link_.down_since_ns = 0;
}

void Session::keep() {
  keeper_ = std::make_unique<Keeper>(c_, dir_.get(), socket_name(access_), *ring_, *agent_, holdings_, link_);
}

Session::~Session() {
  ForkGate::Pass pass;
  unregister_session(this);
  const bool ended = !agent_ || agent_->stop();  // first: with no manager it may need the keeper to get out of an mremap
  keeper_.reset();
  if (ended) return;
  // The agent hangs in the kernel on a stopped manager. What it uses must stay.
  static_cast<void>(agent_.release());
  static_cast<void>(ring_.release());
  for (UniqueFd* fd : {&c_.socket, &c_.uffd, &c_.region, &c_.ring, &c_.doorbell, &c_.sigbus, &c_.life}) fd->release();
}

bool Session::closed() const {
  return lost_.load(std::memory_order_acquire) || agent_->dead() ||
         ring_->header().closed.load(std::memory_order_acquire) != 0;
}

bool Session::given_up() const {
  if (closed()) return true;
  const int64_t since = link_.down_since_ns.load(std::memory_order_seq_cst);
  return since != 0 && monotonic_ns() - since > patience_ns_;
}

void Session::check_open() const {
  if (given_up()) fail_gone(volume_);
}

void Session::wait_connected() {
  constexpr int64_t kLookNs = 50'000'000;
  for (;;) {
    const uint32_t epoch = link_.epoch.load(std::memory_order_seq_cst);
    check_open();
    if (link_.down_since_ns.load(std::memory_order_seq_cst) == 0) return;
    proto::futex_wait(&link_.epoch, epoch, kLookNs);
  }
}

uint32_t Session::agent_backlog() const {
  if (closed()) return 0;
  const proto::RingHeader& h = ring_->header();
  return static_cast<uint32_t>(h.agent_posted.load() - h.agent_done.load());
}

// --- open files and their sentinels

uint32_t Session::note_open(proto::Reply reply, int flags) {
  for (;;) {
    {
      Holdings::Pass pass(holdings_);
      if (epoch() == reply.epoch) {
        const HeldFile f{nullptr, true, reply.handle, static_cast<uint32_t>(flags), -1, reply.attr.ino, reply.attr.generation};
        HeldFile* held = holdings_.files.take(f);
        MutexLock l(table_mutex_);
        handles_[reply.handle] = {held, nullptr};
        return reply.handle;
      }
    }
    // The manager that opened it died before we could note it: the next one does not know of it.
    proto::Request r = make_request(proto::Op::kReopen);
    r.a0 = reply.attr.ino;
    r.a1 = reply.attr.generation;
    r.a2 = static_cast<uint64_t>(static_cast<unsigned>(flags));
    reply = call(r);
  }
}

void Session::note_close(uint32_t handle) {
  Handle dropped;  // closed outside the locks
  {
    MutexLock l(table_mutex_);
    const auto it = handles_.find(handle);
    if (it == handles_.end()) return;
    dropped = std::move(it->second);
    handles_.erase(it);
  }
  Holdings::Pass pass(holdings_);
  holdings_.files.drop(dropped.held);
}

// On a copy of the socket: the number may be another manager's by the time the answer comes.
UniqueFd Session::fetch_sentinel(uint32_t handle) {
  for (;;) {
    wait_connected();
    MutexLock l(socket_mutex_);
    const UniqueFd socket(fcntl(c_.socket.get(), F_DUPFD_CLOEXEC, 0));
    if (!socket) fail(errno, "can't duplicate a socket; out of file descriptors?");
    proto::SentinelRequest request{};
    request.handle = handle;
    const uint32_t seq = ++control_seq_;
    const int err = proto::send_message(socket.get(), proto::Control::kSentinel, seq, request);
    if (err == EPIPE || err == ECONNRESET) {
      usleep(kHangupUs);
      continue;
    }
    if (err != 0) fail(err, "can't ask the manager of {} for a file's sentinel", volume_);
    proto::RecvResult r{proto::RecvStatus::kOk};
    proto::ControlMessage m;
    do r = proto::recv_control(socket.get(), &m);  // what comes first may be the late answer of an exchange that failed
    while (r.status == proto::RecvStatus::kOk && m.header().seq != seq);
    if (r.status == proto::RecvStatus::kEof) {
      usleep(kHangupUs);
      continue;
    }
    if (r.status == proto::RecvStatus::kError) fail(r.err, "can't receive from the manager of {}", volume_);
    if (r.status != proto::RecvStatus::kOk) fail(EPROTO, "a bad message from the manager of {}", volume_);
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

// Asked for by each handle, as the manager keeps for an open file only what it has sent by that: another handle's may be one of a
// mapping that is about to go, and be followed by another.
std::shared_ptr<Sentinel> Session::sentinel(uint32_t handle) {
  for (;;) {
    FileId id;
    const uint32_t asked = epoch();
    {
      MutexLock l(table_mutex_);
      const auto it = handles_.find(handle);
      if (it == handles_.end()) fail(EBADF, "the file is closed");
      if (it->second.sentinel) return it->second.sentinel;
      id = {it->second.held->ino, it->second.held->generation};
    }
    auto s = std::make_shared<Sentinel>(Sentinel{fetch_sentinel(handle), id.first, id.second});
    Holdings::Pass pass(holdings_);
    if (epoch() != asked) continue;  // a dead manager's, and the keeper did not know that we have it
    MutexLock l(table_mutex_);
    const auto it = handles_.find(handle);
    if (it == handles_.end()) fail(EBADF, "the file is closed");
    std::erase_if(sentinels_, [](const auto& e) { return e.second.expired(); });
    auto& known = sentinels_[id];
    if (auto same = known.lock(); same && same_file(same->fd.get(), s->fd.get())) {
      s.swap(same);  // by another handle of the file: one fd is enough
    } else {
      known = s;
    }
    it->second.sentinel = s;
    it->second.held->sentinel_fd = s->fd.get();
    return s;
  }
}

// --- fork

void Session::prepare_fork() {
  fork_token_ = 0;
  for (;;) {
    uint32_t asked = epoch();
    try {
      if (!closed()) {
        const proto::Reply r = call(make_request(proto::Op::kForkPrepare));
        fork_token_ = r.v0;
        asked = r.epoch;
      }
    } catch (const Error&) {  // the child's session will be a lost one
      asked = epoch();
    }
    holdings_.enter();  // until resume_in_parent(): the keeper is not handing anything over
    if (epoch() == asked || closed()) break;
    holdings_.leave();  // the manager that gave the token has died
  }
  if (!closed()) agent_->pause();
}

void Session::resume_in_parent() {
  if (!lost_.load()) agent_->resume();
  holdings_.leave();
}

void Session::drop_inherited() {
  // The ring is not mapped here (MADV_DONTFORK): its address may belong to anybody, so its object is never destroyed.
  static std::vector<proto::Ring*>* graveyard = new std::vector<proto::Ring*>;
  graveyard->push_back(ring_.release());
  if (agent_) agent_->forget();
  agent_.reset();
  if (keeper_) keeper_->forget();
  keeper_.reset();
  holdings_.reset_gate();
  abandoned_ = 0;
  // Until we have one of our own: while a manager that takes over waits for anybody, it waits for us too.
  inherited_life_ = std::move(c_.life);
  c_ = Connection{};
  average_ns_ = 5000;
  turn_next_ = turn_ = freed_ = 0;
  MutexLock l(table_mutex_);
  sentinels_.clear();
  for (auto& [handle, h] : handles_) {
    if (h.sentinel) h.sentinel->fd.reset();  // the parent's
    h.sentinel = nullptr;
    h.held->sentinel_fd = -1;
  }
}

// The manager has a snapshot of the parent, by the token. If it has died since, the next one is told what the snapshot would
// have said.
void Session::reattach_in_child() {
  if (lost_.exchange(true) || fork_token_ == 0) return inherited_life_.reset();
  const int64_t until = monotonic_ns() + patience_ns_;
  bool done = attach_by_token();
  while (!done && let_go() && monotonic_ns() < until) {
    usleep(kHangupUs);
    done = attach_by_name();
  }
  inherited_life_.reset();
  fork_token_ = 0;
}

bool Session::attach_by_token() {
  try {
    start(fork_token_);
    keep();
    lost_ = false;
    const uint32_t manager = epoch();
    const std::vector<uint32_t> borrowed = restore_mappings(*this);
    for (uint32_t handle : borrowed) {
      {
        MutexLock l(table_mutex_);
        if (handles_.contains(handle)) continue;
      }
      call(make_request(proto::Op::kClose, handle));  // of a file that was closed, but for its mappings
    }
    return epoch() == manager || all_restored(*this);
  } catch (const Error&) {
    return false;
  }
}

bool Session::attach_by_name() {
  try {
    start(0, proto::kHelloReattach);
    std::vector<HeldFile*> files;
    {
      MutexLock l(table_mutex_);
      for (auto& [handle, h] : handles_) files.push_back(h.held);
    }
    for (const HeldFile* f : files) {
      proto::ReattachFile q{{}, f->ino, f->generation, f->handle, f->flags, 0, 0};
      exchange(proto::Control::kReattachFile, std::as_writable_bytes(std::span(&q, 1)));
    }
    name_mappings(*this, [&](proto::ReattachMap& q) {
      return std::move(exchange(proto::Control::kReattachMap, std::as_writable_bytes(std::span(&q, 1))).fds[0]);
    });
    proto::ControlHeader done{};
    exchange(proto::Control::kReattachDone, std::as_writable_bytes(std::span(&done, 1)));
    lost_ = false;
    keep();
    wait_agent_all();
    return true;
  } catch (const Error&) {
    return false;
  }
}

// One message and its answer, on the socket of a session nobody else uses yet. ESTALE is an answer without an fd.
proto::ControlMessage Session::exchange(proto::Control type, std::span<std::byte> message) {
  const uint32_t seq = 3;
  const proto::ControlHeader h{proto::kMagic, proto::kVersion, static_cast<uint16_t>(type),
                               static_cast<uint32_t>(message.size()), seq};
  std::memcpy(message.data(), &h, sizeof h);
  if (proto::send_control(c_.socket.get(), message) != 0) fail_gone(volume_);
  proto::ControlMessage m;
  if (proto::recv_control(c_.socket.get(), &m).status != proto::RecvStatus::kOk) fail_gone(volume_);
  if (auto e = m.as<proto::ErrorReply>(proto::Control::kError); e && e->err != ESTALE) {
    fail(e->err, "can't come back to the manager of {}", volume_);
  }
  return m;
}

// In a child whose attempt to attach has failed: to the state before. False: the agent hangs.
bool Session::let_go() {
  lost_ = true;
  if (agent_ && !agent_->stop()) {
    static_cast<void>(agent_.release());
    return false;
  }
  agent_.reset();
  keeper_.reset();
  disown_mappings(*this);  // before the userfaultfd goes: a fault there must not be answered with zeros
  ring_.reset();
  c_ = Connection{};
  abandoned_ = 0;
  turn_next_ = turn_ = freed_ = 0;
  MutexLock l(table_mutex_);
  sentinels_.clear();
  for (auto& [handle, h] : handles_) {
    h.sentinel = nullptr;
    h.held->sentinel_fd = -1;
  }
  return true;
}

}  // namespace pmfs
