// A client that one thread of faults on and on is served by a pager on that thread's processor, and goes back.
#include <functional>
#include <string>

#include "tests/integration/fixture.h"

using namespace pmfs;
using namespace pmfs::test;
using fault::Stream;

namespace {
// From the end of the file down, where nothing is installed ahead: each store is a fault of its own.
std::string page_down(uint64_t i) { return std::to_string((2047 - 6 * i) * kBlockSize); }
void fault_pages(ClientProcess& c, uint64_t pages) {
  for (uint64_t i = 0; i < pages; ++i) c.ok("store m " + page_down(i) + " 5");
}
// The pager moves the client after it has answered the fault.
bool comes_true(const std::function<bool()>& f) {
  for (int i = 0; i < 2000; ++i) {
    if (f()) return true;
    ::usleep(5000);
  }
  return false;
}
}  // namespace

TEST_CASE("a client is served on the processor where its one thread faults, and by all pagers otherwise", "[integration]") {
  Manager m;
  auto c = m.client();
  c->ok("open f /f rwc");
  c->ok("truncate f 8388608");
  c->ok("map f m 0 8388608");
  const auto session = m.server().sessions().at(0);
  CHECK(session->client().lane.load() == fault::Client::kNoLane);
  fault_pages(*c, 4 * Stream::kHot);
  CHECK(comes_true([&] { return session->client().lane.load() >= 0; }));

  // Other threads' faults, on pages that nobody has touched.
  for (uint64_t i = 0; i < 64; ++i) {
    const std::string at = page_down(4 * Stream::kHot + i);
    c->ok("async t store m " + at + " 6");
    CHECK(c->cmd("wait t") == "ok");
    CHECK(c->cmd("load m " + at) == "6");
  }
  CHECK(comes_true([&] { return session->client().lane.load() == fault::Client::kNoLane; }));
  m.check_clean();
}

TEST_CASE("a client that is killed in its lane is cleaned up, and the lane serves the next", "[integration]") {
  Manager m;
  for (int round = 0; round < 2; ++round) {
    auto c = m.client();
    c->ok("open f /f rwc");
    c->ok("truncate f 8388608");
    c->ok("map f m 0 8388608");
    fault_pages(*c, 4 * Stream::kHot);
    CHECK(comes_true([&] { return m.server().sessions().at(0)->client().lane.load() >= 0; }));
    c->kill(SIGKILL);
    REQUIRE(m.all_gone());
    auto d = m.client();
    d->ok("unlink /f");
    d.reset();
    REQUIRE(m.all_gone());
  }
  m.check_clean();
}
