// Session: its life, sentinels and forks. Requests are in requests.cc.
#include "lib/session.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "lib/fork.h"
#include "lib/mapping.h"
#include "lib/persist.h"
#include "pmfs/base/error.h"
#include "pmfs/proto/control.h"

namespace pmfs {

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
