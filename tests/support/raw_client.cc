#include "tests/support/raw_client.h"

#include <cstring>
#include <stdexcept>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace pmfs::test {
using namespace proto;

namespace {
void need(bool ok, const char* what) {
  if (!ok) throw std::runtime_error(std::string("raw client: ") + what);
}
}  // namespace

UniqueFd raw_socket(const std::string& volume, const char* socket_name) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  (volume + "/" + socket_name).copy(a.sun_path, sizeof a.sun_path - 1);
  need(::connect(fd.get(), reinterpret_cast<sockaddr*>(&a), sizeof a) == 0, "connect");
  return fd;
}

RawClient::RawClient(const std::string& volume, const char* socket_name) : socket(raw_socket(volume, socket_name)) {
  need(send_message(socket.get(), Control::kHello, 1, HelloRequest{}) == 0, "hello");
  ControlMessage m;
  need(recv_control(socket.get(), &m).status == RecvStatus::kOk, "no answer to hello");
  auto r = m.as<HelloReply>(Control::kWelcome, kWelcomeFds);
  need(r.has_value(), "no welcome");
  welcome = *r;
  uffd = UniqueFd(::ioctl(m.fds[0].get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = r->uffd_features;
  need(::ioctl(uffd.get(), UFFDIO_API, &api) == 0, "UFFDIO_API");
  ring = std::make_unique<Ring>(m.fds[2].get());
  region = std::move(m.fds[1]);
  doorbell = std::move(m.fds[3]);
  const int fds[] = {uffd.get()};
  need(send_message(socket.get(), Control::kUffd, 2, ControlHeader{}, fds) == 0, "uffd");
  need(recv_control(socket.get(), &m).status == RecvStatus::kOk && m.type() == Control::kOk, "uffd refused");
}

void RawClient::ring_bell() {
  uint64_t one = 1;
  need(::write(doorbell.get(), &one, sizeof one) == sizeof one, "doorbell");
}

Reply RawClient::ask(uint32_t slot, const Request& r) {
  Slot& s = ring->slot(slot);
  std::memcpy(&s.request, &r, sizeof r);
  s.state.store(kPending);
  if (ring->header().manager_sleeps.load()) ring_bell();
  for (int i = 0; i < 20000 && s.state.load() != kDone; ++i) {
    if (i < 200) continue;
    uint32_t v = s.state.load();
    if (v == kDone) break;
    s.state.compare_exchange_strong(v, v | kWaitingBit);
    futex_wait(&s.state, v | kWaitingBit, 1'000'000);
  }
  need(s.state.load() == kDone, "a request was not answered");
  Reply reply;
  std::memcpy(&reply, &s.reply, sizeof reply);
  s.state.store(kFree);
  return reply;
}

Reply RawClient::ask(Op op, const std::string& path1, uint64_t a0, uint64_t a1) {
  Request r{};
  r.op = static_cast<uint16_t>(op);
  r.version = kVersion;
  r.path1_len = static_cast<uint16_t>(path1.size());
  r.a0 = a0;
  r.a1 = a1;
  std::memcpy(ring->bounce(0), path1.data(), path1.size());
  return ask(0, r);
}

std::string RawClient::message(uint32_t slot, const Reply& r) const {
  return {reinterpret_cast<const char*>(ring->bounce(slot)), r.message_len};
}

}  // namespace pmfs::test
