#include "pmfs/proto/ring.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <thread>

#include "pmfs/base/error.h"
#include "pmfs/base/unique_fd.h"

using namespace pmfs;
using namespace pmfs::proto;

TEST_CASE("the parts of the ring do not overlap and are aligned") {
  CHECK(RingLayout::kAgentOffset >= RingLayout::kSlotsOffset + sizeof(Slot) * kSlots);
  CHECK(RingLayout::kBounceOffset >= RingLayout::kAgentOffset + sizeof(AgentCommand) * kAgentSlots);
  CHECK(RingLayout::kBounceOffset % 4096 == 0);
  CHECK(sizeof(Slot) % 64 == 0);
  CHECK(RingLayout::kBytes % 4096 == 0);
}

TEST_CASE("two mappings of one ring show the same words") {
  UniqueFd fd(Ring::create_memfd());
  Ring a(fd.get()), b(fd.get());
  REQUIRE(a.base() != b.base());
  CHECK(a.header().magic == kMagic);
  for (uint32_t i = 0; i < kSlots; ++i) CHECK(b.slot(i).state.load() == kFree);
  a.slot(31).state.store(kPending);
  CHECK(b.slot(31).state.load() == kPending);
  a.slot(31).request.a4 = 42;
  CHECK(b.slot(31).request.a4 == 42);
  a.bounce(31)[kBounceBytes - 1] = std::byte{7};
  CHECK(b.bounce(31)[kBounceBytes - 1] == std::byte{7});
  a.agent_slot(kAgentSlots + 3).seq = 9;
  CHECK(b.agent_slot(3).seq == 9);
  a.header().agent_posted.store(uint64_t{1} << 40);
  CHECK(b.header().agent_posted.load() == uint64_t{1} << 40);
}

TEST_CASE("nobody can change the ring's size under the other side") {
  UniqueFd fd(Ring::create_memfd());
  CHECK(ftruncate(fd.get(), 4096) == -1);
  CHECK(ftruncate(fd.get(), static_cast<off_t>(RingLayout::kBytes) * 2) == -1);
  CHECK(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE) == -1);
  CHECK((fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("what is not a ring is refused with EPROTO") {
  auto refused = [](int fd) {
    try {
      Ring r(fd);
      return 0;
    } catch (const Error& e) {
      return e.err();
    }
  };
  SECTION("another size") {
    UniqueFd fd(memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    CHECK(refused(fd.get()) == EPROTO);
  }
  SECTION("not sealed: it could shrink") {
    UniqueFd fd(memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(ftruncate(fd.get(), static_cast<off_t>(RingLayout::kBytes)) == 0);
    CHECK(refused(fd.get()) == EPROTO);
  }
  SECTION("another header") {
    UniqueFd fd(Ring::create_memfd());
    { Ring(fd.get()).header().slots = 7; }
    CHECK(refused(fd.get()) == EPROTO);
  }
  SECTION("not a file") { CHECK(refused(-1) == EBADF); }
}

TEST_CASE("futex: a changed word does not sleep, a timeout ends, a wake wakes across mappings") {
  UniqueFd fd(Ring::create_memfd());
  Ring a(fd.get()), b(fd.get());
  auto& word = a.slot(0).state;
  futex_wait(&word, 1, -1);         // is 0: returns at once
  futex_wait(&word, 0, 1'000'000);  // nobody wakes: returns after a millisecond
  std::thread waker([&] {
    for (int i = 0; i < 1000 && word.load() == 0; ++i) std::this_thread::sleep_for(std::chrono::microseconds(50));
    b.slot(0).state.store(2);
    futex_wake(&b.slot(0).state, 1);
  });
  word.store(1);
  while (word.load() == 1) futex_wait(&word, 1, -1);
  waker.join();
  CHECK(word.load() == 2);
}
