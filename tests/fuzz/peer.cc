#include "tests/fuzz/peer.h"

#include <algorithm>
#include <cstring>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pmfs/base/error.h"

namespace pmfs::fuzz {

using namespace proto;

namespace {

constexpr uint64_t kVa = 0x100000000000;
constexpr uid_t kNobody = 65534;

constexpr uint64_t kNumbers[] = {0, 1, 2, 3, 4, 5, 16, 31, 64, 255, 511, 512, 4095, 4096, 8192, 12288, 65535, 65536, 262143, 262144,
  262145, 1 << 20, 1 << 21, 2101248, 3 << 20, 1 << 24, UINT32_MAX, uint64_t{1} << 32, uint64_t{1} << 42, (uint64_t{1} << 43) - 4096,
  uint64_t{1} << 43, uint64_t{1} << 47, uint64_t{1} << 62, INT64_MAX - 1, INT64_MAX, uint64_t{1} << 63, UINT64_MAX - 4095, UINT64_MAX - 1, UINT64_MAX, kVa,
  kVa + 4096, kVa + (1 << 20), kVa + (1 << 21), (uint64_t{1} << 47) - 4096, O_RDWR | O_CREAT, O_RDWR, O_RDWR | O_CREAT | O_TRUNC,
  O_WRONLY | O_CREAT | O_APPEND, O_RDWR | O_CREAT | O_EXCL};

}  // namespace

uint8_t Input::byte() {
  if (left_ == 0) return 0;
  --left_;
  return *data_++;
}

void Input::bytes(void* to, size_t n) {
  std::memset(to, 0, n);
  const size_t have = std::min(n, left_);
  std::memcpy(to, data_, have);
  data_ += have;
  left_ -= have;
}

uint64_t Input::number() {
  const uint8_t which = byte();
  if (which < std::size(kNumbers)) return kNumbers[which];
  if (which < 128) return which - std::size(kNumbers);
  if (which < 192) return uint64_t(which - 128) * kBlockSize;
  uint64_t v;
  bytes(&v, sizeof v);
  return v;
}

Peer::Peer(World& world, bool root) : world_(world) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) finding("no socket pair");
  ours_ = UniqueFd(ends[0]);
  const uid_t id = root ? 0 : kNobody;
  session_ = std::make_shared<server::Session>(world.volume(), world.pagers(), world.shares(), nullptr, world.next_session(), UniqueFd(ends[1]),
                                               ucred{::getpid(), id, id});
}

Peer::~Peer() { session_->end(); }

UniqueFd Peer::userfaultfd() const {
  UniqueFd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)));
  uffdio_api api{};
  api.api = UFFD_API;
  if (!fd || ::ioctl(fd.get(), UFFDIO_API, &api) != 0) finding("no userfaultfd");
  return fd;
}

void Peer::greet(uint64_t token, int ring_fd) {
  HelloRequest h{};
  h.fork_token = token;
  h.flags = ring_fd >= 0 ? kHelloReattach : 0;
  h.h = {kMagic, kVersion, static_cast<uint16_t>(Control::kHello), sizeof h, 1};
  const int ring[] = {ring_fd};
  control(std::as_bytes(std::span(&h, 1)), {ring, ring_fd >= 0 ? 1u : 0u});
  const UniqueFd uffd = userfaultfd();
  const int fds[] = {uffd.get()};
  const ControlHeader u{kMagic, kVersion, static_cast<uint16_t>(Control::kUffd), sizeof u, 2};
  control(std::as_bytes(std::span(&u, 1)), fds);
}

// As the server does with what comes on a socket.
void Peer::control(std::span<const std::byte> message, std::span<const int> fds) {
  if (session_->ended() || send_control(ours_.get(), message, fds) != 0) return;
  ControlMessage m;
  if (recv_control(session_->socket(), &m).status != RecvStatus::kOk) return session_->end();
  try {
    on_control(m);
  } catch (const Error& e) {
    send_error(session_->socket(), m.header().seq, e.err(), e.message().c_str());
  }
  ControlMessage answer;
  while (recv_control(ours_.get(), &answer).status == RecvStatus::kOk) {
    if (answer.type() != Control::kWelcome || answer.fd_count != kWelcomeFds) continue;
    ring_fd_ = std::move(answer.fds[2]);
    ring_ = std::make_unique<Ring>(ring_fd_.get());
  }
}

void Peer::on_control(ControlMessage& m) {
  switch (m.type()) {
    case Control::kHello: {
      auto h = m.as<HelloRequest>(Control::kHello, m.fd_count);
      if (!h) fail(EPROTO, "a malformed hello");
      std::shared_ptr<server::ForkImage> image;
      if (h->fork_token != 0) image = world_.take_fork(h->fork_token);
      const bool reattach = (h->flags & kHelloReattach) != 0;
      if ((h->flags & ~kHelloReattach) != 0 || m.fd_count > (reattach ? 1 : 0) || (reattach && image))
        fail(EPROTO, "a malformed hello");
      return session_->welcome(m, reattach, ours_.get(), ours_.get(), std::move(image));
    }
    case Control::kUffd: return session_->take_uffd(m);
    case Control::kReattachFile: return session_->reattach_file(m);
    case Control::kReattachMap: return session_->reattach_map(m);
    case Control::kReattachDone: return session_->reattach_done(m);
    case Control::kSentinel: return session_->send_sentinel(m);
    default: fail(EPROTO, "not one a client sends");
  }
}

void Peer::typed_control(Input& in) {
  std::byte buffer[kMaxControlBytes + 8] = {};
  const auto type = static_cast<uint16_t>(in.byte() % 13);
  size_t bytes = sizeof(ControlHeader);
  auto put = [&](auto message) {
    bytes = sizeof message;
    std::memcpy(buffer, &message, bytes);
  };
  switch (static_cast<Control>(type)) {
    case Control::kHello: put(HelloRequest{{}, argument(in), in.byte() % 4u, {}}); break;
    case Control::kSentinel: put(SentinelRequest{{}, handle(in), 0}); break;
    case Control::kReattachFile:
      put(ReattachFile{{}, argument(in), argument(in), handle(in), static_cast<uint32_t>(in.number()), in.byte() % 2u, 0});
      break;
    case Control::kReattachMap:
      put(ReattachMap{{}, argument(in), argument(in), argument(in), in.number(), in.number(), in.number(), in.byte() % 5u,
                      static_cast<int32_t>(in.number()), 0});
      break;
    default: break;
  }
  ReattachFile named;  // the honest file is not ours to write to
  std::memcpy(&named, buffer, sizeof named);
  if (named.ino == world_.honest_ino()) return;
  const uint8_t how = in.byte();
  if (how % 16 == 0) bytes = std::min<size_t>(in.byte() * 3u, sizeof buffer);
  if (how % 16 == 1) in.bytes(buffer, bytes);
  ControlHeader h{kMagic, kVersion, type, static_cast<uint32_t>(bytes), 3};
  if (how % 16 == 2) in.bytes(&h, sizeof h);
  std::memcpy(buffer, &h, sizeof h);
  if (how % 16 == 1 || bytes < sizeof named) std::memcpy(&named, buffer, sizeof named);
  if (named.ino == world_.honest_ino() || bytes == 0) return;
  UniqueFd uffd;
  int fds[2] = {ours_.get(), ours_.get()};
  size_t count = how / 64;
  if (static_cast<Control>(type) == Control::kUffd && count < 3) {
    uffd = userfaultfd();
    fds[0] = uffd.get();
    count = 1;
  }
  if (static_cast<Control>(type) == Control::kHello && ring_fd_ && count == 1) fds[0] = ring_fd_.get();
  control({buffer, bytes}, {fds, std::min<size_t>(count, 2)});
}

uint64_t Peer::argument(Input& in) {
  const uint8_t which = in.byte();
  if (which < 64 && !known_.empty()) return known_[which % known_.size()];
  if (which < 80 && !handles_.empty()) return handles_[which % handles_.size()];
  return in.number();
}

uint32_t Peer::handle(Input& in) {
  const uint8_t which = in.byte();
  if (which < 224 && !handles_.empty()) return handles_[which % handles_.size()];
  return static_cast<uint32_t>(in.number());
}

std::string Peer::path(Input& in) {
  static const std::string kPaths[] = {"/a", "/b", "/c", "/d", "/d/x", "/d/y", "/d/../a", "/s", "/s/x", "/", "", "a", "//d//x/", "/..",
    "/" + std::string(255, 'n'), "/" + std::string(256, 'n'), std::string(4096, '/'), std::string(5000, 'p'), std::string("/z\0z", 4), "/\xff\xfe"};
  const uint8_t which = in.byte();
  if (which < 240) return kPaths[which % std::size(kPaths)];
  std::string s(which - 239u, '\0');
  in.bytes(s.data(), s.size());
  return s.find("honest") == std::string::npos ? s : "/a";
}

void Peer::request(Input& in, bool raw) {
  if (!ring_ || session_->ended()) return;
  const uint32_t index = in.byte() % kSlots;
  Request r{};
  r.op = in.byte() % 54;
  r.version = kVersion;
  const std::string one = path(in), two = path(in);
  // Requests without a path name a handle.
  const uint8_t shape = in.byte();
  if (shape % 4 != 0) r.handle = handle(in);
  if (shape % 4 <= 1) r.path1_len = static_cast<uint16_t>(one.size());
  if (shape % 4 == 0) r.path2_len = static_cast<uint16_t>(shape & 8 ? two.size() : 0);
  r.flags = (shape & 0x70) == 0x70 ? in.byte() : 0;
  r.a0 = argument(in);
  r.a1 = argument(in);
  r.a2 = argument(in);
  r.a3 = shape & 0x80 ? in.number() : in.byte() % 4u;
  r.a4 = 3;
  if (raw) in.bytes(&r, sizeof r);
  if (static_cast<Op>(r.op) == Op::kGrow) return;  // takes memory for good
  if (static_cast<Op>(r.op) == Op::kReopen && r.a0 == world_.honest_ino()) return;
  std::byte* bounce = ring_->bounce(index);
  std::memcpy(bounce, one.data(), one.size());
  std::memcpy(bounce + one.size(), two.data(), two.size());
  if (::memmem(bounce, size_t{r.path1_len} + r.path2_len, "honest", 6) != nullptr) return;
  Slot& slot = ring_->slot(index);
  std::memcpy(&slot.request, &r, sizeof r);
  slot.state.store(kRunning);
  // The answer goes to this slot and to no other.
  std::byte* next = ring_->bounce((index + 1) % kSlots);
  uint64_t guard = 0x7061676573206f66, seen;
  std::memcpy(next, &guard, sizeof guard);
  world_.dispatcher().execute(*session_, index);
  slot.state.store(kDone);
  std::memcpy(&seen, next, sizeof seen);
  if (seen != guard) finding("a request wrote behind its buffer");
  if (shape & 1) world_.dispatcher().settle();
  const Reply& reply = slot.reply;
  if (reply.err < 0 || reply.err > 4096) finding("an answer that is no errno");
  if (reply.err != 0) return;
  switch (static_cast<Op>(r.op)) {
    case Op::kOpen:
    case Op::kReopen:
      if (handles_.size() < 64) handles_.push_back(reply.handle);
      known_.push_back(reply.attr.ino);
      known_.push_back(reply.attr.generation);
      break;
    case Op::kClose: std::erase(handles_, r.handle); break;
    case Op::kMap:
      known_.push_back(reply.v0);
      known_.push_back(r.a0);
      break;
    case Op::kSplit: known_.push_back(reply.v0); break;
    case Op::kForkPrepare: tokens_.push_back(reply.v0); break;
    default: break;
  }
  if (known_.size() > 64) known_.erase(known_.begin(), known_.begin() + 16);
}

// An event as its userfaultfd would raise it.
void Peer::fault(Input& in) {
  if (!session_->ready() || session_->ended()) return;
  uffd_msg m{};
  m.event = in.byte() % 16 == 0 ? UFFD_EVENT_REMAP : UFFD_EVENT_PAGEFAULT;
  m.arg.pagefault.address = argument(in);
  m.arg.pagefault.flags = in.byte() % 8;
  world_.faults().handle(session_->client(), m);
}

// Words of the ring that are not its own, or lies in its own.
void Peer::scribble(Input& in) {
  if (!ring_ || session_->ended()) return;
  RingHeader& h = ring_->header();
  switch (in.byte() % 6) {
    case 0: h.agent_done.store(h.agent_posted.load()); break;
    case 1: h.agent_done.store(in.number()); break;
    case 2: h.agent_posted.store(in.number()); break;
    case 3: ring_->agent_slot(in.number()).result = static_cast<int32_t>(in.number()); break;
    case 4: h.agent_sleeps.store(static_cast<uint32_t>(in.number())); break;
    default: ring_->slot(in.byte() % kSlots).state.store(static_cast<uint32_t>(in.number())); break;
  }
  session_->agent_acks();
}

void Peer::step(Input& in) {
  switch (in.byte() % 16) {
    case 0: return typed_control(in);
    case 1:
    case 2: return scribble(in);
    case 3:
    case 4: return fault(in);
    case 5: return request(in, true);
    default: return request(in, false);
  }
}

}  // namespace pmfs::fuzz
