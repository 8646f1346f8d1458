// Which thread of a client faults most, and where it runs.
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

#include <catch2/catch.hpp>

#include "pmfs/fault/stream.h"

using namespace pmfs::fault;

namespace {
void faults(Stream& s, uint32_t tid, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) s.fault(tid);
}
}  // namespace

TEST_CASE("a thread that faults on and on is looked for, at once and then now and then") {
  Stream s;
  faults(s, 7, Stream::kHot);
  CHECK_FALSE(s.look());
  s.fault(7);
  CHECK(s.tid() == 7);
  CHECK(s.look());
  uint32_t between = 0;
  while (!s.look()) ++between;
  CHECK(between == Stream::kLook);
}

TEST_CASE("a few faults of another thread don't matter, as many do") {
  Stream s;
  faults(s, 7, 2 * Stream::kHot);
  s.fault(8);
  CHECK_FALSE(s.cold());
  faults(s, 7, Stream::kOther);
  REQUIRE(s.look());
  for (int i = 0; i < 20; ++i) faults(s, 7, 1), faults(s, 8, 1);
  CHECK(s.cold());
  CHECK_FALSE(s.look());
  faults(s, 8, 2 * Stream::kHot);
  CHECK(s.tid() == 8);
  CHECK(s.look());
}

TEST_CASE("the processor of a thread is the one it is bound to") {
  cpu_set_t all;
  REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &all)) continue;
    std::thread([cpu] {
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
      CHECK(processor_of(static_cast<uint32_t>(syscall(SYS_gettid))) == cpu);
    }).join();
  }
  CHECK(processor_of(0x7fffffff) == -1);
}
