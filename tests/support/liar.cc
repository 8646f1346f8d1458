#include "tests/support/liar.h"

#include <cstring>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace pmfs::test {

using namespace proto;

namespace {
constexpr uint64_t kPage = 4096, kArea = 0x200000000000;
constexpr uint64_t kSpins = 200'000;  // how long it waits for an answer: it has other things to do
}  // namespace

Liar::~Liar() { leave(); }

uint64_t Liar::number() {
  switch (roll(7)) {
    case 0: return roll(8);
    case 1: return roll(64) * kPage;
    case 2: return rng_();
    case 3: return (uint64_t{1} << roll(64)) - roll(2);
    case 4: return ~uint64_t{0} - roll(4097);
    case 5: return kBounceBytes + roll(3) - 1;
    default: return kArea + roll(1024) * kPage;
  }
}

uint64_t Liar::any_of(const std::vector<uint64_t>& known) {
  return known.empty() || roll(8) == 0 ? number() : known[roll(known.size())];
}

UniqueFd Liar::descriptor() {
  switch (roll(6)) {
    case 0: return UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC));
    case 1: return UniqueFd(::memfd_create("liar", MFD_CLOEXEC));                          // no seals, no size
    case 2: return UniqueFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    case 3: return UniqueFd(::eventfd(0, EFD_CLOEXEC));                                    // reads of it block
    case 4: return UniqueFd(Ring::create_memfd());                                         // a ring, but whose
    default: return UniqueFd(::open("/", O_PATH | O_CLOEXEC));
  }
}

bool Liar::say(Control type, std::span<std::byte> message, std::span<const int> fds) {
  const ControlHeader h{kMagic, kVersion, static_cast<uint16_t>(type), static_cast<uint32_t>(message.size()), 1};
  std::memcpy(message.data(), &h, sizeof h);
  return send_control(socket_.get(), message, fds) == 0;
}

void Liar::drain_socket() {
  ControlMessage m;
  for (int looks = 0; looks < 4; ++looks) {
    pollfd p{socket_.get(), POLLIN, 0};
    if (::poll(&p, 1, 0) <= 0) return;
    const RecvResult r = recv_control(socket_.get(), &m);
    if (r.status != RecvStatus::kOk) return leave();
  }
}

// In one of the ways there are; mostly it gets to be served.
void Liar::join() {
  leave();
  socket_ = raw_socket(volume_);
  timeval t{2, 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
  HelloRequest hello{};
  UniqueFd ring;
  const uint64_t how = roll(8);
  if (how == 0 && former_ring_) {  // as a client of a manager that died, which none did
    hello.flags = kHelloReattach;
    ring = std::move(former_ring_);
  } else if (how == 1) {
    hello.flags = kHelloReattach;
    ring = descriptor();
  } else if (how == 2) {
    hello.fork_token = any_of(tokens_);
  } else if (how == 3) {
    hello.flags = rng_();
  }
  const int fds[] = {ring.get()};
  if (!say(Control::kHello, hello, {fds, ring ? 1u : 0u})) return leave();
  ControlMessage m;
  if (recv_control(socket_.get(), &m).status != RecvStatus::kOk || m.type() != Control::kWelcome) return leave();
  region_ = std::move(m.fds[1]);
  ring_fd_ = std::move(m.fds[2]);
  doorbell_ = std::move(m.fds[3]);
  ring_ = std::make_unique<Ring>(ring_fd_.get());
  seen_command_ = ring_->header().agent_posted.load();
  if (roll(8) == 0) hand_over();  // out of turn
  uffd_ = UniqueFd(::ioctl(m.fds[0].get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | (roll(2) ? O_NONBLOCK : 0)));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = m.as<HelloReply>(Control::kWelcome, kWelcomeFds)->uffd_features;
  if (roll(4) == 0) api.features |= UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE;
  if (::ioctl(uffd_.get(), UFFDIO_API, &api) != 0) return leave();
  const UniqueFd other = roll(8) == 0 ? descriptor() : UniqueFd();
  const int uffd[] = {other ? other.get() : uffd_.get()};
  say(Control::kUffd, ControlHeader{}, uffd);
  if (recv_control(socket_.get(), &m).status != RecvStatus::kOk) return leave();
  stop_.store(false);
  changer_ = std::thread([this, seed = rng_()] {
    std::mt19937_64 rng(seed);
    while (!stop_.load()) {
      Slot& s = ring_->slot(static_cast<uint32_t>(rng() % kSlots));
      auto* words = reinterpret_cast<uint32_t*>(&s.request);
      std::atomic_ref<uint32_t>(words[rng() % (sizeof(Request) / 4)]).store(static_cast<uint32_t>(rng() % 3 ? rng() % 70000 : rng()));
      auto* path = reinterpret_cast<uint32_t*>(ring_->bounce(static_cast<uint32_t>(rng() % kSlots)));
      std::atomic_ref<uint32_t>(path[rng() % 8]).store(0x61610000u + static_cast<uint32_t>(rng() % 4) * 0x2f);  // letters, slashes
      if (rng() % 64 == 0) s.state.store(static_cast<uint32_t>(rng() % 6));
      for (int k = 0; k < 500; ++k) __builtin_ia32_pause();
    }
  });
}

void Liar::leave() {
  stop_.store(true);
  if (changer_.joinable()) changer_.join();
  if (ring_ && roll(2)) former_ring_ = std::move(ring_fd_);
  ring_.reset();
  for (UniqueFd* fd : {&socket_, &doorbell_, &region_, &ring_fd_}) fd->reset();
  if (uffd_ && roll(2) && !ranges_.empty()) uffd_.release();  // threads that wait in faults go on waiting
  uffd_.reset();
  handles_.clear();
  ranges_.clear();
}

void Liar::request() {
  static const std::string kPaths[] = {"/liar", "/liar2", "/liard", "/liard/x", "/liard/../liar", "/liars", "", "relative", "/liard//"};
  const auto index = static_cast<uint32_t>(roll(kSlots));
  Request r{};
  r.op = static_cast<uint16_t>(roll(54));
  r.version = kVersion;
  r.handle = static_cast<uint32_t>(any_of(handles_));
  const std::string one = kPaths[roll(std::size(kPaths))], two = kPaths[roll(std::size(kPaths))];
  const bool by_name = roll(2) != 0;
  r.path1_len = static_cast<uint16_t>(by_name ? one.size() : 0);
  r.path2_len = static_cast<uint16_t>(by_name && roll(2) ? two.size() : 0);
  r.a0 = r.op == static_cast<uint16_t>(Op::kOpen) && roll(4) ? uint64_t{O_RDWR | O_CREAT} : roll(2) ? any_of(known_) : number();
  r.a1 = number();
  r.a2 = roll(2) ? any_of(known_) : number();
  r.a3 = roll(4);
  r.a4 = number();
  // Never what is somebody else's: by number it could be.
  if (r.op == static_cast<uint16_t>(Op::kReopen) && r.a0 < 64) r.a1 = rng_();
  std::memcpy(ring_->bounce(index), one.data(), one.size());
  std::memcpy(ring_->bounce(index) + one.size(), two.data(), two.size());
  Slot& s = ring_->slot(index);
  std::memcpy(&s.request, &r, sizeof r);
  s.state.store(kPending);
  if (ring_->header().manager_sleeps.load() != 0 || roll(4) == 0) {
    const uint64_t one_more = 1;
    if (::write(doorbell_.get(), &one_more, sizeof one_more) < 0) return;
  }
  if (roll(4) == 0) return;  // does not wait for it
  for (uint64_t i = 0; i < kSpins && s.state.load() != kDone; ++i) __builtin_ia32_pause();
  const Reply reply = s.reply;
  if (s.state.load() != kDone || reply.err != 0) return;
  if (r.op == static_cast<uint16_t>(Op::kOpen)) {
    handles_.push_back(reply.handle);
    known_.push_back(reply.attr.ino);
    known_.push_back(reply.attr.generation);
  }
  if (r.op == static_cast<uint16_t>(Op::kForkPrepare)) tokens_.push_back(reply.v0);
  if (r.op == static_cast<uint16_t>(Op::kMap)) known_.push_back(reply.v0);
  if (known_.size() > 64) known_.erase(known_.begin(), known_.begin() + 32);
}

// Any message, out of turn for the most part, with descriptors that nobody asked for.
void Liar::control() {
  std::vector<UniqueFd> fds;
  std::vector<int> numbers;
  for (uint64_t n = roll(4) ? roll(2) : roll(kMaxControlFds + 1); n > 0; --n) {
    fds.push_back(descriptor());
    numbers.push_back(fds.back().get());
  }
  switch (roll(6)) {
    case 0: say(Control::kHello, HelloRequest{{}, any_of(tokens_), roll(3), {}}, numbers); break;
    case 1: say(Control::kUffd, ControlHeader{}, numbers); break;
    case 2: say(Control::kSentinel, SentinelRequest{{}, static_cast<uint32_t>(any_of(handles_)), 0}, numbers); break;
    case 3: say(Control::kReattachDone, ControlHeader{}, numbers); break;
    case 4: say(static_cast<Control>(roll(16) == 11 ? 12 : roll(11)), ControlHeader{}, numbers); break;
    default: {
      std::byte noise[kMaxControlBytes + 16];
      for (auto& b : noise) b = std::byte(rng_());
      if (send_control(socket_.get(), {noise, 1 + roll(sizeof noise)}, numbers) != 0) return leave();
    }
  }
  drain_socket();
}

// Files and mappings of before, with generations that were or never were, twice, over each other.
void Liar::hand_over() {
  for (uint64_t n = roll(6); n > 0 && socket_; --n) {
    uint64_t ino = any_of(known_);
    const uint64_t generation = ino < 64 ? rng_() | uint64_t{1} << 60 : any_of(known_);
    if (roll(2)) {
      say(Control::kReattachFile, ReattachFile{{}, ino, generation, static_cast<uint32_t>(any_of(handles_)), static_cast<uint32_t>(roll(4)),
                                               static_cast<uint32_t>(roll(2)), 0});
    } else {
      say(Control::kReattachMap, ReattachMap{{}, ino, generation, any_of(known_), number(), number(), number(), roll(5), 3, 0});
    }
    drain_socket();
  }
}

// As the library does, up to a point.
void Liar::map() {
  if (handles_.empty()) return;
  const uint64_t va = kArea + roll(1024) * kPage, bytes = (1 + roll(32)) * kPage;
  void* p = ::mmap(reinterpret_cast<void*>(va), bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return;
  uffdio_register r{};
  r.range = {va, bytes};
  r.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (roll(4) && ::ioctl(uffd_.get(), UFFDIO_REGISTER, &r) != 0) return;
  Request q{};
  q.op = static_cast<uint16_t>(Op::kMap);
  q.version = kVersion;
  q.handle = static_cast<uint32_t>(handles_[roll(handles_.size())]);
  q.a0 = va;
  q.a1 = roll(16) * kPage;
  q.a2 = roll(8) ? bytes : bytes * 1024;
  q.a3 = roll(4);
  Slot& s = ring_->slot(0);
  std::memcpy(&s.request, &q, sizeof q);
  s.state.store(kPending);
  const uint64_t one = 1;
  if (::write(doorbell_.get(), &one, sizeof one) < 0) return;
  ranges_.push_back({va, bytes});
}

void Liar::touch() {
  if (ranges_.empty()) return;
  const Range r = ranges_[roll(ranges_.size())];
  std::thread([r, at = roll(r.bytes / kPage) * kPage] {
    static_cast<void>(*reinterpret_cast<volatile char*>(r.va + at));  // for ever, it may be
  }).detach();
}

// While threads of it wait in faults there.
void Liar::unmap() {
  if (ranges_.empty()) return;
  const size_t i = roll(ranges_.size());
  const Range r = ranges_[i];
  ::mmap(reinterpret_cast<void*>(r.va), r.bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  ranges_.erase(ranges_.begin() + static_cast<std::ptrdiff_t>(i));
}

void Liar::act_as_agent() {
  RingHeader& h = ring_->header();
  const uint64_t posted = h.agent_posted.load();
  for (; seen_command_ < posted && posted - seen_command_ <= kAgentSlots; ++seen_command_) {
    AgentCommand& c = ring_->agent_slot(seen_command_ + 1);
    if (roll(4) == 0) continue;  // says that it has
    if (c.op == static_cast<uint32_t>(AgentOp::kMapRegion) && c.length <= 32 * kPage && c.va >= kArea && c.va < kArea + 2048 * kPage) {
      void* p = ::mmap(reinterpret_cast<void*>(c.va), c.length, PROT_READ, MAP_SHARED | MAP_FIXED, region_.get(), static_cast<off_t>(c.region_offset));
      uffdio_register r{};
      r.range = {c.va, c.length};
      r.mode = UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP;
      if (p != MAP_FAILED) ::ioctl(uffd_.get(), UFFDIO_REGISTER, &r);
    }
    c.result = roll(8) ? 0 : static_cast<int32_t>(rng_());
  }
  h.agent_done.store(posted);
}

void Liar::lie_about_agent() {
  RingHeader& h = ring_->header();
  switch (roll(5)) {
    case 0: h.agent_done.store(h.agent_posted.load()); break;
    case 1: h.agent_done.store(rng_()); break;
    case 2: h.agent_done.store(0); break;
    case 3: h.agent_posted.store(rng_()); break;
    default: ring_->agent_slot(roll(kAgentSlots)).result = static_cast<int32_t>(rng_()); break;
  }
  const uint64_t one = 1;
  if (::write(doorbell_.get(), &one, sizeof one) < 0) return;
}

// It has the userfaultfd too: reads the events that are the manager's, wakes and fills as it likes.
void Liar::resolve_faults() {
  if (roll(2)) ::fcntl(uffd_.get(), F_SETFL, roll(2) ? O_NONBLOCK : 0);
  pollfd p{uffd_.get(), POLLIN, 0};
  uffd_msg m;
  if (roll(2) && ::poll(&p, 1, 0) > 0 && (::fcntl(uffd_.get(), F_GETFL) & O_NONBLOCK) != 0 && ::read(uffd_.get(), &m, sizeof m) < 0) return;
  if (ranges_.empty()) return;
  const Range r = ranges_[roll(ranges_.size())];
  uffdio_range range{r.va, r.bytes};
  if (roll(2)) ::ioctl(uffd_.get(), UFFDIO_WAKE, &range);
  uffdio_zeropage z{};
  z.range = range;
  if (roll(2)) ::ioctl(uffd_.get(), UFFDIO_ZEROPAGE, &z);
  if (roll(4) == 0) ::ioctl(uffd_.get(), UFFDIO_UNREGISTER, &range);
}

// Connections, and messages full of descriptors, that it never does anything with.
void Liar::bomb() {
  std::vector<UniqueFd> sockets;
  for (int i = 0; i < 40; ++i) {
    UniqueFd s(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    try {
      s = raw_socket(volume_);
    } catch (const std::exception&) {
      break;
    }
    std::vector<int> fds(kMaxControlFds, s.get());
    HelloRequest h{};
    send_message(s.get(), Control::kHello, 1, h, std::span(fds).first(roll(2) ? 0 : kMaxControlFds));
    sockets.push_back(std::move(s));
  }
}

void Liar::step() {
  if (!socket_ || !ring_) return join();
  switch (roll(24)) {
    case 0: return control();
    case 1: return hand_over();
    case 2:
    case 3: return map();
    case 4:
    case 5: return touch();
    case 6: return unmap();
    case 7:
    case 8: return act_as_agent();
    case 9: return lie_about_agent();
    case 10: return resolve_faults();
    case 11: return roll(16) == 0 ? bomb() : drain_socket();
    case 12: return roll(32) == 0 ? leave() : request();
    default: return request();
  }
}

void Liar::run(uint64_t steps) {
  for (uint64_t i = 0; i < steps; ++i) {
    try {
      step();
    } catch (const std::exception&) {  // refused: by the time it comes again it has changed its mind
      leave();
      ::usleep(1000);
    }
  }
}

}  // namespace pmfs::test
