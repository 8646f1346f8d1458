#include "pmfs/server/session.h"

#include <algorithm>
#include <cstring>

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/same_file.h"
#include "pmfs/base/sys.h"

namespace pmfs::server {

using namespace proto;

namespace {
constexpr size_t kMaxFiles = 65536;
// Threads of a stopped client that wait in calls and in faults may well have some 100,000 commands posted.
constexpr size_t kMaxCommands = 1 << 18;

// The peer's ids and supplementary groups. Without the groups it is merely refused more.
meta::Credentials credentials_of(int socket, const ucred& peer) {
  meta::Credentials who{peer.uid, peer.gid};
  socklen_t bytes = 0;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, nullptr, &bytes) != 0 && errno != ERANGE) return who;
  who.groups.resize(bytes / sizeof(gid_t));
  if (!who.groups.empty() && ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, who.groups.data(), &bytes) != 0)
    who.groups.clear();
  return who;
}

UniqueFd pidfd_of(int socket, const ucred& peer) {
  constexpr int kSoPeerPidfd = 77;  // SO_PEERPIDFD, Linux 6.5
  int fd = -1;
  socklen_t bytes = sizeof fd;
  if (::getsockopt(socket, SOL_SOCKET, kSoPeerPidfd, &fd, &bytes) == 0) return UniqueFd(fd);
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0)));
}

}  // namespace

Session::Session(MountedVolume& volume, fault::Pagers& pagers, FdShares& shares, std::shared_ptr<const void> own_fds,
                 uint64_t session_id, UniqueFd socket, const ucred& cred, bool ro)
    : id(session_id),
      peer(cred),
      who(credentials_of(socket.get(), cred)),
      read_only(ro),
      volume_(volume),
      pagers_(pagers),
      shares_(shares),
      own_fds_(std::move(own_fds)),
      socket_(std::move(socket)),
      client_(session_id),
      pidfd_(std::make_shared<const UniqueFd>(pidfd_of(socket_.get(), cred))),
      epoch_(static_cast<uint32_t>(volume.superblock().mount_epoch)) {}

void note_stores(MountedVolume& volume, Inode& i) {
  try {
    volume.note_stores(i);
  } catch (const Error&) {  // no metadata space for a time: the data is there
  }
}

Session::~Session() { end(); }

void Session::welcome(ControlMessage& m, bool reattach, int uffd_device, int region_fd,
                      std::shared_ptr<ForkImage> image) {
  if (ring_) fail(EPROTO, "a second hello on one connection");
  if (!read_only) outsider_ = volume_.leases().enter();  // a mount believes nothing any more: the client may change files
  reattached_ = reattach;
  client_.reattaching.store(reattach);
  if (m.fd_count != 0) {
    take_ring(std::move(m.fds[0]));
  } else {
    ring_fd_ = UniqueFd(Ring::create_memfd());
    ring_ = std::make_unique<Ring>(ring_fd_.get());
  }
  ring_->header().manager_sleeps.store(1);
  doorbell_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!doorbell_) fail(errno, "no eventfd for the doorbell: too many files open in the manager?");
  if (image) {
    image_ = std::move(image);
    MutexLock l(files_mutex_);
    files_ = image_->files;
  }
  meta::Superblock sb = volume_.superblock();
  HelloReply r{};
  std::memcpy(r.volume_uuid, sb.uuid, sizeof r.volume_uuid);
  r.region_blocks = sb.geometry.blocks;
  r.client_id = id;
  r.region_kind = sb.geometry.region_kind;
  r.block_size = static_cast<uint32_t>(volume_.unit().bytes());
  r.slots = kSlots;
  r.agent_slots = kAgentSlots;
  r.bounce_bytes = kBounceBytes;
  r.ring_bytes = RingLayout::kBytes;
  r.uffd_features = fault::kUffdFeatures | (volume_.region().kind() == RegionKind::kHugetlb ? fault::kUffdHugetlb : 0);
  r.uffd_is_device = 1;
  r.epoch = epoch_;
  r.acked = direct() ? 1 : 0;
  r.map_sync = volume_.region().map_sync() ? 1 : 0;
  const ClientLocks::Life life = volume_.grant_life_lock(direct());  // ours is closed when the client has its own
  life_ = life.byte;
  const int fds[] = {uffd_device, region_fd, ring_fd_.get(), doorbell_.get(), client_.sigbus_page.fd(), life.fd.get()};
  static_assert(std::size(fds) == kWelcomeFds);
  if (int err = send_message(socket(), Control::kWelcome, m.header().seq, r, fds))
    fail(err, "client {}: can't be answered", id);
}

void Session::take_uffd(ControlMessage& m) {
  if (!ring_ || ready()) fail(EPROTO, "a userfaultfd out of turn");
  if (m.fd_count != 1) fail(EPROTO, "a userfaultfd message without its fd");
  client_.read_only = read_only;
  client_.set_uffd(std::make_shared<fault::Uffd>(std::move(m.fds[0])));
  pagers_.add(std::shared_ptr<fault::Client>(shared_from_this(), &client_));
  ready_.store(true, std::memory_order_release);
  if (int err = send_message(socket(), Control::kOk, m.header().seq)) fail(err, "client {}: can't be answered", id);
}

void Session::send_sentinel(const ControlMessage& m) {
  auto r = m.as<SentinelRequest>(Control::kSentinel);
  if (!r || !ready()) fail(EPROTO, "a malformed sentinel request");
  auto s = sentinel(file(r->handle)->inode);
  const int fds[] = {s->fd()};
  if (int err = send_message(socket(), Control::kSentinelFd, r->h.seq, ControlHeader{}, fds))
    fail(err, "client {}: can't be answered", id);
}

std::shared_ptr<fault::Sentinel> Session::sentinel(const InodeRef& inode) {
  MutexLock l(files_mutex_);
  auto& weak = sentinels_[to_u64(inode->ino)];
  auto s = weak.lock();
  if (!s) {
    auto share = shares_.take(peer, 1);
    s = {new fault::Sentinel(inode), [share](fault::Sentinel* p) {
           delete p;  // and then its share
         }};
    weak = s;
  }
  // Kept until the file is closed: the client has it mapped before the manager knows of the mapping, and who else has it may
  // be a mapping that is gone but for a command of it. (A mapping that is handed over may be of a file that is closed: it
  // keeps its own.)
  if (std::find(kept_sentinels_.begin(), kept_sentinels_.end(), s) == kept_sentinels_.end() && has_open(inode->ino))
    kept_sentinels_.push_back(s);
  return s;
}

bool Session::has_open(Ino ino) const {
  return std::any_of(files_.begin(), files_.end(), [&](auto& o) { return o.second->inode && o.second->inode->ino == ino; });
}

bool Session::has_ring(int fd) const {
  return ring_fd_ && same_file(ring_fd_.get(), fd);
}

void Session::end(bool comes_back) {
  if (ending_.exchange(true)) return;
  // First a stranger, then ended: a command that nobody takes any more is waited for in its place.
  if (direct() && life_ != 0) volume_.estrange(life_, pidfd_, sys().monotonic_ns());
  ended_.store(true);
  if (ready()) pagers_.remove(client_);
  // A client that has not come all the way has hung up, to try again here or at the next manager, with this very ring.
  if (ring_ && !reattaching() && !comes_back) {
    ring_->header().closed.store(1);
    for (uint32_t i = 0; i < kSlots; ++i) futex_wake(&ring_->slot(i).state, INT32_MAX);
  }
  // Released at the end, outside the locks: the last reference of a file evicts it.
  auto maps = client_.remove_all();
  std::map<uint32_t, std::shared_ptr<OpenFile>> files;
  std::vector<std::shared_ptr<fault::Sentinel>> sentinels;
  std::deque<fault::VmaCommand> commands;
  {
    MutexLock l(files_mutex_);
    files.swap(files_);
    sentinels.swap(kept_sentinels_);
    sentinels_.clear();
  }
  std::vector<std::shared_ptr<const void>> refused;
  {
    MutexLock l(agent_mutex_);
    commands.swap(commands_);
    refused.swap(refused_);
  }
  image_ = nullptr;
  if (direct()) {
    for (auto& r : refused) volume_.keep_for_strangers(std::move(r));
    refused.clear();
    let_go(std::move(commands));
  }
  for (auto& [va, m] : maps)
    if (!read_only) note_stores(volume_, m->inode());
}

// What its commands keep, and what the mappings that were parting do, is kept until the process is gone. If it is, that was all.
void Session::let_go(std::deque<fault::VmaCommand> commands) {
  for (fault::VmaCommand& c : commands) {
    if (c.keep) volume_.keep_for_strangers(c.keep);
    for (auto& k : c.mapping->end_parting()) volume_.keep_for_strangers(std::move(k));
  }
}

uint32_t Session::add_file(std::shared_ptr<OpenFile> f) {
  MutexLock l(files_mutex_);
  if (ended()) fail(ENOTCONN, "client {}: is gone", id);
  if (files_.size() >= kMaxFiles) fail(EMFILE, "client {}: {} files are open already", id, kMaxFiles);
  const uint32_t handle = take_handle();
  files_.emplace(handle, std::move(f));
  return handle;
}

uint32_t Session::take_handle() {
  uint32_t handle;
  do {
    last_handle_ = (last_handle_ + 1) & ((1u << kHandleEpochShift) - 1);
    handle = (epoch_ & 0xff) << kHandleEpochShift | last_handle_;
  } while (last_handle_ == 0 || files_.count(handle));
  return handle;
}

std::shared_ptr<OpenFile> Session::file(uint32_t handle) {
  MutexLock l(files_mutex_);
  auto it = files_.find(handle);
  if (it == files_.end()) fail(EBADF, "handle {}: is not open", handle);
  if (!it->second->inode) fail(ESTALE, "handle {}: the file was removed while there was no manager", handle);
  return it->second;
}

void Session::close_file(uint32_t handle) {
  std::shared_ptr<OpenFile> f;
  std::vector<std::shared_ptr<fault::Sentinel>> dropped;
  MutexLock l(files_mutex_);
  auto it = files_.find(handle);
  if (it == files_.end() && former_handle(handle)) return;
  if (it == files_.end()) fail(EBADF, "handle {}: is not open", handle);
  f = std::move(it->second);
  files_.erase(it);
  if (!f->inode) return;
  if (has_open(f->inode->ino)) return;  // by another handle
  auto s = sentinels_[to_u64(f->inode->ino)].lock();
  auto at = std::find(kept_sentinels_.begin(), kept_sentinels_.end(), s);
  if (at != kept_sentinels_.end()) {
    dropped.push_back(std::move(*at));
    kept_sentinels_.erase(at);
  }
  dropped.push_back(std::move(s));
}

size_t Session::files() {
  MutexLock l(files_mutex_);
  return files_.size();
}

ForkImage Session::fork_image() {
  ForkImage image;
  image.client = id;
  image.uid = peer.uid;
  image.read_only = read_only;
  auto maps = client_.mappings();
  MutexLock l(files_mutex_);
  image.files = files_;
  for (auto& m : maps) {
    uint32_t handle = 0;
    for (auto& [h, f] : image.files)
      if (f->inode && f->inode->ino == m->inode().ino && (f->flags & O_ACCMODE) != O_WRONLY) handle = h;
    if (handle == 0) {  // its file was closed: one of its own for the child
      do handle = take_handle();
      while (image.files.count(handle));
      image.files.emplace(handle, std::make_shared<OpenFile>(OpenFile{m->inode_ref(), read_only ? O_RDONLY : O_RDWR}));
    }
    image.mappings.push_back({m->id, m->va, m->pages.first.bytes(), m->pages.count() * kBlockSize,
                              static_cast<uint64_t>(m->prot()), handle, 0});
  }
  return image;
}

// --- VMA commands

uint64_t Session::post(fault::VmaCommand c) {
  MutexLock l(agent_mutex_);
  if (ended()) return 0;
  if (commands_.size() >= kMaxCommands) {  // it never executes any: the manager's memory is not its to fill
    ::shutdown(socket(), SHUT_RDWR);       // so the control thread ends it
    if (!c.keep && !c.parting) return next_seq_;  // what others wait for is not lost: end() finds it in the queue
  }
  c.posted_ns = sys().monotonic_ns();
  commands_.push_back(std::move(c));
  owes_.store(true);
  ++next_seq_;
  pump();
  return next_seq_;
}

void Session::pump() {
  RingHeader& h = ring_->header();
  bool posted = false;
  while (posted_ < next_seq_ && posted_ - done_ < kAgentSlots) {
    const fault::VmaCommand& c = commands_[posted_ - done_];
    AgentOp op = c.kind == fault::VmaKind::kRegion     ? (direct() ? AgentOp::kMapDirect : AgentOp::kMapRegion)
                 : c.kind == fault::VmaKind::kSentinel ? AgentOp::kMapSentinel
                                                       : AgentOp::kMapSigbus;
    ring_->agent_slot(posted_ + 1) = {posted_ + 1,  static_cast<uint32_t>(op), static_cast<uint32_t>(c.mapping->prot()), c.va, c.bytes,
                                      c.offset, c.mapping->sentinel_fd, 0};
    ++posted_;
    posted = true;
  }
  if (!posted) return;
  h.agent_posted.store(posted_);
  if (h.agent_sleeps.load()) futex_wake(reinterpret_cast<std::atomic<uint32_t>*>(&h.agent_posted), 1);
}

bool Session::agent_acks() {
  if (!owes_.load()) return false;  // who posts rings, or is looked at the next time
  std::vector<std::pair<fault::VmaCommand, int>> done;
  {
    MutexLock l(agent_mutex_);
    uint64_t said = ring_->header().agent_done.load();
    // A client that lies about it harms its own mappings only; but not our queue.
    if (said > posted_) said = posted_;
    while (done_ < said && !commands_.empty()) {
      ++done_;
      done.emplace_back(std::move(commands_.front()), ring_->agent_slot(done_).result);
      commands_.pop_front();
    }
    owes_.store(!commands_.empty());
    pump();
  }
  for (auto& [c, err] : done) c.mapping->vma_done(c, err);
  return !done.empty();
}

void Session::refused(std::shared_ptr<const void> keep) {
  {
    MutexLock l(agent_mutex_);
    if (!ended()) return refused_.push_back(std::move(keep));
  }
  volume_.keep_for_strangers(std::move(keep));
}

Session::Revokes Session::revokes() {
  Revokes r;
  MutexLock l(agent_mutex_);
  r.refused = !refused_.empty();
  for (const fault::VmaCommand& c : commands_) {
    if (!c.keep && !c.parting) continue;
    if (r.count++ == 0) r.since_ns = c.posted_ns;
  }
  return r;
}

bool Session::fence() {
  if (fenced_.exchange(true)) return false;
  return *pidfd_ && ::syscall(SYS_pidfd_send_signal, pidfd_->get(), SIGKILL, nullptr, 0) == 0;
}

void Session::answer(uint32_t slot) {
  std::atomic<uint32_t>& state = ring_->slot(slot).state;
  last_reply_ns.store(sys().monotonic_ns(), std::memory_order_relaxed);
  if (state.exchange(kDone) & kWaitingBit) futex_wake(&state, INT32_MAX);
}

void Session::ask_again(uint32_t slot) {
  std::atomic<uint32_t>& state = ring_->slot(slot).state;
  uint32_t v = state.load();
  while (!state.compare_exchange_weak(v, kPending | (v & kWaitingBit))) {
  }
  ring_bell();
}

void Session::ring_bell() {
  const uint64_t one = 1;
  if (::write(doorbell_.get(), &one, sizeof one) < 0) {
  }  // full: the client has filled it, to its own harm
}

uint64_t Session::last_command() {
  MutexLock l(agent_mutex_);
  return done_ < next_seq_ ? next_seq_ : 0;
}

uint64_t Session::agent_queue() {
  MutexLock l(agent_mutex_);
  return commands_.size();
}

}  // namespace pmfs::server
