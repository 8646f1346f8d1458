// Clients that know the protocol and abuse it (tests/support/hostile_client.cc), as a user of their own: honest ones beside them find
// their data as they left it and get their answers. Each wait has a bound (ClientProcess::kBound): who never gets an answer fails.
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "pmfs/base/pause.h"
#include "tests/integration/fixture.h"
#include "tests/integration/restart_fixture.h"
#include "tests/support/hostile_process.h"

using namespace pmfs;
using namespace pmfs::proto;
using namespace pmfs::test;

namespace {

constexpr uint32_t kNobody = 65534;
constexpr uint64_t kQuotaBlocks = 2048;

void let_in(const std::string& volume) {  // a test's directory is its owner's
  namespace fs = std::filesystem;
  for (const fs::path& p : {fs::path(volume), fs::path(volume).parent_path()})
    fs::permissions(p, fs::perms::others_read | fs::perms::others_exec, fs::perm_options::add);
}

uint64_t times(uint64_t usual) {  // PMFS_FUZZ_MESSAGES for the long run
  const char* s = std::getenv("PMFS_FUZZ_MESSAGES");
  return s ? std::max<uint64_t>(usual, std::strtoull(s, nullptr, 10) / 10000) : usual;
}

// Everything an honest client does with a file that has its blocks.
class Honest {
 public:
  Honest(const std::string& volume, std::string name) : name_(std::move(name)) {
    c_.ok("connect " + volume);
    c_.ok("open f /" + name_ + " rwc");
    c_.ok("prealloc f 0 262144");
    c_.ok("map f m 0 262144");
    c_.ok("fill m 0 262144 7");
  }
  void look() {
    ++turn_;
    const std::string value = std::to_string(turn_ % 251), at = std::to_string(turn_ % 64 * 4096);
    REQUIRE(c_.cmd("load m 200000") == "7");
    c_.ok("store m " + at + " " + value);
    REQUIRE(c_.cmd("read f " + at + " 1").find("uniform " + value) != std::string::npos);
    REQUIRE(c_.cmd("write f " + at + " 4096 7") == "4096");
    REQUIRE(c_.cmd("check m 0 262144 7") == "ok");
    REQUIRE(c_.cmd("stat f").rfind("262144 ", 0) == 0);
    c_.ok("open again /" + name_ + " r");
    c_.ok("map again n 0 262144 ro");  // faults of its own
    REQUIRE(c_.cmd("check n 0 262144 7") == "ok");
    c_.ok("unmap n");
    c_.ok("close again");
    c_.ok("fsync f");
  }

 private:
  ClientProcess c_;
  const std::string name_;
  unsigned turn_ = 0;
};

struct DescriptorLimit {  // of this process, and so of the managers it starts
  explicit DescriptorLimit(rlim_t n) {
    ::getrlimit(RLIMIT_NOFILE, &was);
    const rlimit less{n, was.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &less) == 0);
  }
  ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &was); }
  rlimit was{};
};

template <class F>
bool becomes(F&& true_now) {  // with a bound on a hang
  for (int i = 0; i < 15000; ++i) {
    if (true_now()) return true;
    ::usleep(2000);
  }
  return false;
}

size_t open_fds() {
  size_t n = 0;
  for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator("/proc/self/fd")) ++n;
  return n;
}

}  // namespace

TEST_CASE("liars: out of turn, twice, with changing words; the honest beside them notice nothing", "[hostile]") {
  server::ServerOptions o = with_pagers(2);
  o.socket_mode = 0666;
  Manager m(o);
  let_in(m.path());
  m.volume().set_quota(meta::QuotaKind::kUser, kNobody, kQuotaBlocks, 100);
  Honest a(m.path(), "a"), b(m.path(), "b");
  const uint64_t rounds = times(6);
  for (uint64_t round = 0; round < rounds; ++round) {
    std::vector<std::unique_ptr<HostileProcess>> liars;
    for (uint64_t k = 0; k < 3; ++k)
      liars.push_back(std::make_unique<HostileProcess>(m.path(), std::vector<std::string>{"liar", std::to_string(round * 3 + k + 1), "4000"}));
    // Some end by themselves, others in the middle of it.
    for (int looks = 0; looks < 8; ++looks) {
      a.look();
      b.look();
    }
  }
  a.look();
  b.look();
  CHECK(m.volume().counters().invalidates.get() > 0);
  CHECK(becomes([&] { return m.server().sessions().size() == 2; }));
  m.check_clean();
}

TEST_CASE("a length that changes while it is looked at: the manager reads it once; the control reads it twice", "[hostile]") {
  const bool sabotaged = GENERATE(false, true);
  Restart r(sabotaged ? Restart::Args{"--sabotage-reads", "--socket-mode", "666"} : Restart::Args{"--socket-mode", "666"});
  let_in(r.path());
  Honest honest(r.path(), "a");
  HostileProcess hostile(r.path(), {"reads"});
  for (int i = 0; i < 30 || (sabotaged && hostile.running() && i < 2000); ++i) honest.look();
  if (sabotaged) {
    REQUIRE_FALSE(hostile.running());
    CHECK(WEXITSTATUS(hostile.status()) == 5);
  } else {
    CHECK(hostile.running());
  }
}

TEST_CASE("a client that always has more requests: the others have their turn", "[hostile]") {
  server::ServerOptions o = with_pagers(2);
  o.workers = 1;
  o.socket_mode = 0666;
  Manager m(o);
  let_in(m.path());
  Honest honest(m.path(), "a");
  HostileProcess hostile(m.path(), {"requests"});
  REQUIRE(becomes([&] { return m.server().sessions().size() == 2; }));
  for (int i = 0; i < 10; ++i) honest.look();
  CHECK(hostile.running());
}

TEST_CASE("a client whose threads always fault: the others have their turn", "[hostile]") {
  server::ServerOptions o = with_pagers(1);
  o.socket_mode = 0666;
  o.jitter = 1;  // a slow pager: by the time that it has handled some events there are more
  Manager m(o);
  let_in(m.path());
  Honest honest(m.path(), "a");
  HostileProcess hostile(m.path(), {"faults", "40"});
  const uint64_t before = m.server().faults().counters().faults.get();
  REQUIRE(becomes([&] { return m.server().faults().counters().faults.get() >= before + 2000; }));
  for (int i = 0; i < 4; ++i) honest.look();
  CHECK(hostile.running());
  pause::g_jitter.store(0);
}

TEST_CASE("a client that never executes its commands: what is queued for it has a bound", "[hostile]") {
  Manager m;
  Honest honest(m.path(), "a");
  RawClient liar(m.path());
  const Reply file = liar.ask(Op::kOpen, "/many", O_RDWR | O_CREAT, 0600);
  REQUIRE(file.err == 0);
  Request r{};
  r.version = kVersion;
  r.handle = file.handle;
  r.op = static_cast<uint16_t>(Op::kPreallocate);
  r.a0 = 0;
  r.a1 = 1024 * 2 * kBlockSize;
  REQUIRE(liar.ask(0, r).err == 0);
  r.op = static_cast<uint16_t>(Op::kPunch);
  r.a1 = kBlockSize;
  for (uint64_t p = 0; p < 1024; ++p) {  // an extent, a hole, an extent
    r.a0 = p * 2 * kBlockSize;
    REQUIRE(liar.ask(0, r).err == 0);
  }
  const auto sessions = m.server().sessions();
  uint64_t most = 0;
  int maps = 0;
  bool cut_off = false;
  for (; maps < 4000 && !cut_off; ++maps) {
    r.op = static_cast<uint16_t>(Op::kMap);
    r.a0 = 0x200000000000;
    r.a1 = 0;
    r.a2 = 2048 * kBlockSize;
    r.a3 = 3;
    try {
      if (liar.ask(0, r).err == 0) {
        r.op = static_cast<uint16_t>(Op::kUnmap);
        r.a1 = r.a0;
        r.a0 = 0;
        static_cast<void>(liar.ask(0, r));
      }
    } catch (const std::exception&) {  // no answer any more
    }
    for (const auto& s : sessions) most = std::max(most, s->agent_queue());
    cut_off = m.server().sessions().size() == 1;
  }
  CHECK(cut_off);
  CHECK(maps > 200);  // an honest client may have that many
  CHECK(most <= 1 << 18);
  honest.look();
}

TEST_CASE("descriptors: a process has its share of the manager's, and no more", "[hostile]") {
  DescriptorLimit limit(1200);
  server::ServerOptions o;
  o.socket_mode = 0666;
  Manager m(o);
  let_in(m.path());
  Honest honest(m.path(), "a");
  const size_t before = open_fds();
  {
    // Connections that say nothing, of this process.
    std::vector<UniqueFd> sockets;
    for (int i = 0; i < 80; ++i) sockets.push_back(raw_socket(m.path()));
    honest.look();  // and all of them have been looked at
    CHECK(m.server().sessions().size() <= 1 + 300 / 5);
    CHECK(m.server().sessions().size() > 20);
    Honest late(m.path(), "late");
    late.look();
  }
  REQUIRE(becomes([&] { return m.server().sessions().size() == 1; }));
  {
    RawClient liar(m.path());
    int refused = 0, had = 0;
    for (int i = 0; i < 400; ++i) {
      const Reply f = liar.ask(Op::kOpen, "/s" + std::to_string(i), O_RDWR | O_CREAT, 0600);
      REQUIRE(f.err == 0);
      send_message(liar.socket.get(), Control::kSentinel, 5, SentinelRequest{{}, f.handle, 0});
      ControlMessage answer;
      REQUIRE(recv_control(liar.socket.get(), &answer).status == RecvStatus::kOk);
      if (auto e = answer.as<ErrorReply>(Control::kError)) {
        CHECK(e->err == EMFILE);
        ++refused;
      } else {
        ++had;
      }
    }
    CHECK(had > 200);
    CHECK(had <= 300);
    CHECK(refused > 0);
    Honest late(m.path(), "late2");
    late.look();
  }
  REQUIRE(becomes([&] { return m.server().sessions().size() == 1; }));
  honest.look();
  CHECK(open_fds() <= before);
}

TEST_CASE("a userfaultfd that reports forks: the child's is not kept", "[hostile]") {
  Manager m;
  UniqueFd socket = raw_socket(m.path());
  REQUIRE(send_message(socket.get(), Control::kHello, 1, HelloRequest{}) == 0);
  ControlMessage w;
  REQUIRE(recv_control(socket.get(), &w).status == RecvStatus::kOk);
  REQUIRE(w.fd_count == kWelcomeFds);
  const UniqueFd uffd(::ioctl(w.fds[0].get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_EVENT_FORK;  // root may
  REQUIRE(::ioctl(uffd.get(), UFFDIO_API, &api) == 0);
  void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uffdio_register r{};
  r.range = {reinterpret_cast<uint64_t>(page), 4096};
  r.mode = UFFDIO_REGISTER_MODE_MISSING;
  REQUIRE(::ioctl(uffd.get(), UFFDIO_REGISTER, &r) == 0);
  const int fds[] = {uffd.get()};
  REQUIRE(send_message(socket.get(), Control::kUffd, 2, ControlHeader{}, fds) == 0);
  ControlMessage answer;
  REQUIRE(recv_control(socket.get(), &answer).status == RecvStatus::kOk);
  REQUIRE(answer.type() == Control::kOk);
  const size_t before = open_fds();
  for (int i = 0; i < 20; ++i) {
    const pid_t child = ::fork();  // waits until the manager, which this process is too, has read the event
    if (child == 0) ::_exit(0);
    REQUIRE(::waitpid(child, nullptr, 0) == child);
  }
  CHECK(becomes([&] { return open_fds() <= before; }));
  ::munmap(page, 4096);
}
