// A client that knows the protocol and abuses it, in the state that each abuse is worst in, as user nobody. It says nothing and ends
// with 0, if nobody kills it; what it does to others is for those to see.
//
//   hostile_client VOLUME liar SEED STEPS      everything of liar.h, a random step at a time; its words change under the manager's eyes
//   hostile_client VOLUME requests             every slot pending, without an end
//   hostile_client VOLUME faults THREADS       each thread faults on mapped pages, without an end
//   hostile_client VOLUME reads                reads whose length changes while they are executed; 5: a reply was longer than its buffer
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "pmfs/pmfs.h"
#include "tests/support/liar.h"

using namespace pmfs;
using namespace pmfs::proto;

namespace {

constexpr unsigned kNobody = 65534;
constexpr int kTooMuch = 5;

// Long ones: by the time that the last slot is answered the first is pending again, however slow it is.
void requests_without_end(const std::string& volume) {
  constexpr uint64_t kBytes = 4 << 20;
  test::RawClient c(volume);
  const std::string name = "/copies" + std::to_string(::getpid());
  const Reply from = c.ask(Op::kOpen, name, O_RDWR | O_CREAT, 0600), to = c.ask(Op::kOpen, name + "to", O_RDWR | O_CREAT, 0600);
  Request r{};
  r.version = kVersion;
  r.handle = from.handle;
  r.op = static_cast<uint16_t>(Op::kWrite);
  r.a1 = kBounceBytes;
  for (r.a0 = 0; r.a0 < kBytes; r.a0 += kBounceBytes)
    if (from.err != 0 || to.err != 0 || c.ask(0, r).err != 0) _exit(3);
  r.op = static_cast<uint16_t>(Op::kCopyRange);
  r.a0 = 0;
  r.a1 = to.handle;
  r.a3 = kBytes;
  for (uint64_t n = 0;; ++n) {
    Slot& s = c.ring->slot(static_cast<uint32_t>(n % kSlots));
    const uint32_t state = s.state.load();
    if (state == kPending || state == kRunning) continue;
    std::memcpy(&s.request, &r, sizeof r);
    s.state.store(kPending);
    if (c.ring->header().manager_sleeps.load() != 0) c.ring_bell();
  }
}

void faults_without_end(const std::string& volume, int threads) {
  constexpr size_t kPage = 4096, kPages = 64;
  pmfs_volume* v = pmfs_connect(volume.c_str());
  const int fd = v != nullptr ? pmfs_open(v, "/faults", O_RDWR | O_CREAT, 0600) : -1;
  if (fd < 0 || pmfs_ftruncate(fd, kPage * kPages) != 0) _exit(3);
  auto* p = static_cast<char*>(pmfs_mmap(nullptr, kPage * kPages, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  if (p == MAP_FAILED) _exit(3);
  std::memset(p, 1, kPage * kPages);
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t)
    all.emplace_back([p, t] {
      for (size_t n = static_cast<size_t>(t);; ++n) {
        char* page = p + n % kPages * kPage;
        ::syscall(SYS_madvise, page, kPage, MADV_DONTNEED);
        static_cast<void>(*const_cast<volatile char*>(page));
      }
    });
  for (auto& t : all) t.join();
}

// A read is checked when its request is taken: a length that grows then must not be looked at again.
void reads_without_end(const std::string& volume) {
  test::RawClient c(volume);
  const Reply file = c.ask(Op::kOpen, "/reads", O_RDWR | O_CREAT, 0600);
  Request r{};
  r.op = static_cast<uint16_t>(Op::kTruncate);
  r.version = kVersion;
  r.handle = file.handle;
  r.a0 = 2 * kBounceBytes;
  if (file.err != 0 || c.ask(0, r).err != 0) _exit(3);
  Slot& s = c.ring->slot(0);
  std::atomic_ref<uint64_t> length(s.request.a1);
  std::thread([&length] {
    for (;;) {
      length.store(kBounceBytes + 4096);  // into the next slot's buffer
      length.store(4096);
    }
  }).detach();
  r.op = static_cast<uint16_t>(Op::kRead);
  r.a0 = 0;
  r.a1 = 4096;
  for (;;) {
    s.request.op = r.op;
    s.request.a0 = 0;
    s.state.store(kPending);
    if (c.ring->header().manager_sleeps.load() != 0) c.ring_bell();
    while (s.state.load() != kDone) {
    }
    if (s.reply.err == 0 && s.reply.v0 > kBounceBytes) _exit(kTooMuch);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || setresgid(kNobody, kNobody, kNobody) != 0 || setresuid(kNobody, kNobody, kNobody) != 0) return 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::string volume = argv[1], what = argv[2];
  signal(SIGBUS, [](int) { _exit(0); });  // as liars must expect
  signal(SIGSEGV, [](int) { _exit(0); });
  try {
    if (what == "requests") requests_without_end(volume);
    if (what == "faults" && argc > 3) faults_without_end(volume, std::atoi(argv[3]));
    if (what == "reads") reads_without_end(volume);
    if (what == "liar" && argc > 4) {
      test::Liar(volume, std::strtoull(argv[3], nullptr, 10)).run(std::strtoull(argv[4], nullptr, 10));
      _exit(0);  // threads of it may wait in faults for ever
    }
  } catch (const std::exception& e) {  // the manager has had enough of it
    std::fprintf(stderr, "hostile_client: %s\n", e.what());
    _exit(4);
  }
  return 2;
}
