#include "pmfs/server/server.h"

#include <cstring>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <spdlog/spdlog.h>

#include "pmfs/base/error.h"
#include "pmfs/base/lock_order.h"
#include "pmfs/base/pause.h"
#include "pmfs/base/sys.h"
#include "pmfs/fault/probe.h"

namespace pmfs::server {

using namespace proto;

namespace {
constexpr uint64_t kListenId = 0, kReadOnlyListenId = ~uint64_t{0} - 1, kStopId = ~uint64_t{0};
constexpr int64_t kForkTtlNs = 30'000'000'000;
constexpr int kLookMs = 20;
constexpr size_t kMaxForks = 64;  // of one client, forked and not yet connected
constexpr size_t kMaxForkEntries = 1 << 20;  // files and mappings that those of one user keep, of clients that are gone too
}  // namespace

Server::Server(const ServerOptions& o) : options_(o) {
  uffd_device_ = UniqueFd(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (!uffd_device_)
    fail(ENOTSUP,
         "/dev/userfaultfd: {}; the manager lends it to its clients: needs Linux 6.1 or later with CONFIG_USERFAULTFD "
         "and access to that device",
         std::strerror(errno));
  fault::probe_acked(uffd_device_.get());
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) fail(errno, "manager: its limit of descriptors can't be read");
  shares_ = std::make_unique<FdShares>(limit.rlim_cur);
  volume_ = std::make_unique<MountedVolume>(o.volume, VolumeOptions{o.exclusion, o.allow_broken, o.canary, o.trace, true, true,
                                                                            o.zap_at_mount, true, o.lease, o.force_acked, o.ask_readers});
  if (volume_->gated()) fault::probe_gated(uffd_device_.get());  // how it is, only the volume says
  // A description of its own: the one of the region holds the manager's lock on the file.
  std::string self = "/proc/self/fd/" + std::to_string(volume_->region().fd());
  region_fd_ = UniqueFd(::open(self.c_str(), O_RDWR | O_CLOEXEC));
  if (!region_fd_) fail(errno, "region: can't be opened for clients: {}", std::strerror(errno));
  if (o.read_only_socket_mode) {
    read_only_region_fd_ = UniqueFd(::open(self.c_str(), O_RDONLY | O_CLOEXEC));
    if (!read_only_region_fd_) fail(errno, "region: can't be opened for read-only clients: {}", std::strerror(errno));
  }
  pause::g_jitter.store(o.jitter);
}

Server::~Server() {
  stop();
  workers_.reset();
  pagers_.reset();
  expire_forks(true);
}

void Server::start() {
  faults_ = std::make_unique<fault::FaultHandler>(*volume_);
  pagers_ = std::make_unique<fault::Pagers>(*faults_, options_.pagers);
  host_.sabotage = options_.sabotage;
  host_.sessions = [this] { return sessions(); };
  host_.shutdown = [this] { request_stop(); };
  host_.keep_fork = [this](ForkImage image) {
    uint64_t token = 0;
    while (token == 0)
      if (::getrandom(&token, sizeof token, 0) != sizeof token) token = 0;
    image.expires_ns = sys().monotonic_ns() + kForkTtlNs;
    MutexLock l(forks_mutex_);
    size_t outstanding = 0, entries = image.files.size() + image.mappings.size();
    for (auto& [t, f] : forks_) {
      outstanding += f->client == image.client;
      if (f->uid == image.uid) entries += f->files.size() + f->mappings.size();
    }
    if (outstanding >= kMaxForks || entries > kMaxForkEntries)
      fail(EAGAIN, "client {}: {} forks of it, {} files and mappings of user {} wait for a child to connect", image.client, outstanding,
           entries, image.uid);
    forks_[token] = std::make_shared<ForkImage>(std::move(image));
    return token;
  };
  host_.drop_fork = [this](uint64_t token) {
    std::shared_ptr<ForkImage> gone;  // released after the lock
    MutexLock l(forks_mutex_);
    auto it = forks_.find(token);
    if (it == forks_.end()) return;
    gone = std::move(it->second);
    forks_.erase(it);
  };
  dispatcher_ = std::make_unique<Dispatcher>(*volume_, *faults_, host_);
  workers_ = std::make_unique<Workers>(*dispatcher_, options_.workers);
  volume_->on_freed([this] {
    if (!faults_->anyone_starved()) return;
    for (auto& s : sessions()) fault::FaultHandler::space_freed(s->client());
  });
  epoll_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  stop_event_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_ || !stop_event_) fail(errno, "manager: can't create an epoll set");
  epoll_event e{EPOLLIN, {.u64 = kStopId}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, stop_event_.get(), &e);
  grace_end_ns_ = sys().monotonic_ns() + static_cast<int64_t>(options_.grace_seconds * 1e9);
  // Before anybody can come, also what a manager has left that had such clients.
  ::unlink((options_.volume / kReadOnlySocketName).c_str());
  if (options_.read_only_socket_mode)
    listen(read_only_door_, kReadOnlySocketName, *options_.read_only_socket_mode, kReadOnlyListenId);
  listen(door_, kSocketName, options_.socket_mode, kListenId);
  control_thread_ = std::thread([this] { run(); });
}

void Server::listen(Door& door, const char* name, unsigned mode, uint64_t id) {
  door.listen = UniqueFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!door.listen) fail(errno, "manager: no socket");
  door.path = options_.volume / name;
  ::unlink(door.path.c_str());  // a dead manager's; we hold the volume's lock
  // The directory by fd, since a socket's path is short.
  UniqueFd dir(::open(options_.volume.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  std::string path = fmt::format("/proc/self/fd/{}/{}", dir.get(), name);
  path.copy(a.sun_path, sizeof a.sun_path - 1);
  mode_t mask = ::umask(static_cast<mode_t>(0777 & ~mode));
  int rc = ::bind(door.listen.get(), reinterpret_cast<sockaddr*>(&a), sizeof a);
  int err = errno;
  ::umask(mask);
  if (rc != 0) fail(err, "manager: can't bind {}: {}", door.path.string(), std::strerror(err));
  if (::listen(door.listen.get(), 128) != 0) fail(errno, "manager: can't listen on {}", door.path.string());
  epoll_event e{EPOLLIN, {.u64 = id}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, door.listen.get(), &e);
}

void Server::request_stop() {
  stop_.store(true);
  uint64_t one = 1;
  if (::write(stop_event_.get(), &one, sizeof one) < 0) {
  }  // full means: already requested
}

void Server::wait() {
  if (control_thread_.joinable()) control_thread_.join();
  if (handed_over_.load())
    drain();
  else
    stop();
}

// Requests that nobody has taken stay in the rings, for the next manager.
void Server::drain() {
  door_.listen.reset();
  read_only_door_.listen.reset();
  workers_.reset();
  pagers_.reset();
  volume_->space();  // frees what is zapped
}

void Server::stop() {
  if (stop_event_) request_stop();
  if (control_thread_.joinable()) control_thread_.join();
  if (workers_) workers_->stop();  // before the sessions: who asked for the stop is answered
  for (auto& s : sessions()) end(s);
  for (Door* d : {&door_, &read_only_door_}) {
    if (!d->path.empty()) ::unlink(d->path.c_str());
    d->path.clear();
  }
}

std::vector<std::shared_ptr<Session>> Server::sessions() {
  ReaderLock l(sessions_mutex_);
  std::vector<std::shared_ptr<Session>> v;
  for (auto& [id, s] : sessions_) v.push_back(s);
  return v;
}

void Server::run() {
  while (!stop_.load()) {
    lock_order::assert_none_held("control thread");
    epoll_event e;
    // While blocks wait for clients it looks who is dead: a lock that is released tells nobody.
    const bool waiting = volume_->quarantine().live() != 0;
    int n = ::epoll_wait(epoll_.get(), &e, 1, waiting ? kLookMs : 1000);
    expire_forks(false);
    if (waiting) fence_late();
    if (volume_->in_grace() && (sys().monotonic_ns() >= grace_end_ns_ || volume_->strangers() == 0)) volume_->end_grace();
    if (n <= 0 || e.data.u64 == kStopId) continue;
    if (e.data.u64 == kListenId || e.data.u64 == kReadOnlyListenId) {
      accept(e.data.u64 == kReadOnlyListenId);
      continue;
    }
    std::shared_ptr<Session> s;
    {
      ReaderLock l(sessions_mutex_);
      auto it = sessions_.find(e.data.u64);
      if (it != sessions_.end()) s = it->second;
    }
    if (s) control(s);
  }
}

void Server::accept(bool read_only) {
  UniqueFd fd(::accept4((read_only ? read_only_door_ : door_).listen.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) return;
  ucred peer{};
  socklen_t len = sizeof peer;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0) return;
  const unsigned mode = read_only ? *options_.read_only_socket_mode : options_.socket_mode;
  // With the default mode the socket is its owner's; checked here too, for a directory that was opened wider.
  if (peer.uid != 0 && peer.uid != ::geteuid() && (mode & 0066) == 0) {
    send_error(fd.get(), 0, EACCES, read_only ? "the manager serves its own user only; see --read-only-socket-mode"
                                              : "the manager serves its own user only; see --socket-mode");
    return;
  }
  int raw = fd.get();
  std::shared_ptr<Session> s;
  try {
    auto share = shares_->take(peer, Session::kOwnFds);
    s = std::make_shared<Session>(*volume_, *pagers_, *shares_, std::move(share), ++next_id_, std::move(fd), peer, read_only);
  } catch (const Error& e) {
    if (fd) send_error(fd.get(), 0, e.err(), e.message().c_str());
    spdlog::debug("client of pid {}: {}", peer.pid, e.message());  // it may try without an end
    return;
  }
  {
    WriterLock l(sessions_mutex_);
    sessions_.emplace(s->id, s);
  }
  epoll_event e{EPOLLIN, {.u64 = s->id}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, raw, &e) != 0) end(s);
}

void Server::control(const std::shared_ptr<Session>& s) {
  ControlMessage m;
  RecvResult r = recv_control(s->socket(), &m);
  switch (r.status) {
    case RecvStatus::kAgain: return;
    case RecvStatus::kOk: break;
    case RecvStatus::kTruncated:
    case RecvStatus::kMalformed:
      host_.protocol_errors.add();
      send_error(s->socket(), 0, EPROTO, "not a message of this protocol (version 1); the connection is closed");
      [[fallthrough]];
    case RecvStatus::kEof:
    case RecvStatus::kError: return end(s);
  }
  try {
    on_control(s, m);
  } catch (const Error& e) {
    if (e.err() == EPROTO) host_.protocol_errors.add();
    send_error(s->socket(), m.header().seq, e.err(), e.message().c_str());
  }
}

void Server::on_control(const std::shared_ptr<Session>& s, ControlMessage& m) {
  switch (m.type()) {
    case Control::kHello: {
      auto h = m.as<HelloRequest>(Control::kHello, m.fd_count);
      if (!h) fail(EPROTO, "a malformed hello");
      std::shared_ptr<ForkImage> image;
      if (h->fork_token != 0) image = take_fork(h->fork_token, s->peer.uid, s->read_only);
      const bool reattach = (h->flags & kHelloReattach) != 0;
      if ((h->flags & ~kHelloReattach) != 0 || m.fd_count > (reattach ? 1 : 0) || (reattach && image))
        fail(EPROTO, "a malformed hello");
      // It lost the connection, not its manager: what it was asked for as another session is its own to answer now.
      if (m.fd_count == 1) {
        for (auto& other : sessions())
          if (other != s && other->has_ring(m.fds[0].get())) end(other, true);
      }
      s->welcome(m, reattach, uffd_device_.get(), (s->read_only ? read_only_region_fd_ : region_fd_).get(), std::move(image));
      return;
    }
    case Control::kUffd:
      s->take_uffd(m);
      if (!s->reattaching()) workers_->add(s);
      return;
    case Control::kReattachFile: return s->reattach_file(m);
    case Control::kReattachMap: return s->reattach_map(m);
    case Control::kReattachDone:
      s->reattach_done(m);
      workers_->add(s);
      return;
    case Control::kHandOver: return hand_over(s, m);
    case Control::kSentinel: return s->send_sentinel(m);
    default: fail(EPROTO, "control message {} is not one a client sends", static_cast<int>(m.type()));
  }
}

void Server::hand_over(const std::shared_ptr<Session>& s, const ControlMessage& m) {
  if (s->read_only) fail(EPERM, "a read-only client can't take the volume over");
  if (s->ready() || !m.as<ControlHeader>(Control::kHandOver)) fail(EPROTO, "a hand-over out of turn");
  if (s->peer.uid != 0 && s->peer.uid != ::geteuid())
    fail(EPERM, "only root and the manager's own user may take the volume over");
  if (int err = send_message(s->socket(), Control::kOk, m.header().seq)) fail(err, "hand-over: can't be answered");
  spdlog::info("{}: process {} takes over", options_.volume.string(), s->peer.pid);
  handed_over_.store(true);
  request_stop();
}

std::shared_ptr<ForkImage> Server::take_fork(uint64_t token, uid_t uid, bool read_only) {
  MutexLock l(forks_mutex_);
  auto it = forks_.find(token);
  if (it == forks_.end() || it->second->uid != uid || it->second->read_only != read_only)
    fail(ESTALE, "the fork token is unknown or too old; the child has to connect afresh");
  auto image = std::move(it->second);
  forks_.erase(it);
  return image;
}

void Server::expire_forks(bool all) {
  std::vector<std::shared_ptr<ForkImage>> gone;  // released after the lock
  int64_t now = sys().monotonic_ns();
  MutexLock l(forks_mutex_);
  for (auto it = forks_.begin(); it != forks_.end();) {
    if (all || it->second->expires_ns < now) {
      gone.push_back(std::move(it->second));
      it = forks_.erase(it);
    } else {
      ++it;
    }
  }
}

// A client that has been asked to let go of blocks and does not answer costs itself its life, and nobody else more than waiting.
void Server::fence_late() {
  volume_->strangers();
  if (volume_->direct_strangers() == 0) volume_->answered();
  const int64_t now = sys().monotonic_ns(), oldest = now - static_cast<int64_t>(options_.fence_seconds * 1e9);
  for (auto& s : sessions()) {
    const Session::Revokes r = s->revokes();
    if (!r.refused && (r.count == 0 || r.since_ns > oldest)) continue;
    if (s->fence())
      spdlog::warn("client {} (process {}): killed, {}", s->id, s->peer.pid,
                   r.refused ? std::string("it could not let go of blocks; too many mappings (vm.max_map_count)?")
                             : fmt::format("it did not let go of blocks for {} s (--fence-after)", options_.fence_seconds));
  }
  if (const size_t n = volume_->fence_strangers(oldest))
    spdlog::warn("{} process(es) killed that had hung up and did not let go of blocks for {} s", n, options_.fence_seconds);
}

void Server::end(const std::shared_ptr<Session>& s, bool comes_back) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, s->socket(), nullptr);
  workers_->remove(*s);
  s->end(comes_back);
  host_.client_deaths.add();
  WriterLock l(sessions_mutex_);
  sessions_.erase(s->id);
}

}  // namespace pmfs::server
