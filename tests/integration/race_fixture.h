// A fault of one client against an operation of another that takes its block away, under each scheme.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>

#include "pmfs/base/pause.h"
#include "tests/integration/fixture.h"

namespace pmfs::test {

// Under each scheme: does f(name) say that P1 was violated? It must under `caught` and under no other. Nothing: there was no
// race, for what fault-around adds is no promise (the kernel ends it by EAGAIN while it migrates pages), and the page in question
// may be left out; under `caught`, where only that shows, it has a few more.
template <class F>
void under_every_scheme(std::initializer_list<std::string_view> caught, F&& f) {
  for (const exclusion::SchemeInfo& s : exclusion::schemes()) {
    INFO(s.name);
    const bool expected = std::find(caught.begin(), caught.end(), s.name) != caught.end();
    std::optional<bool> violated = f(s.name);
    for (int again = 0; expected && !violated && again < 3; ++again) violated = f(s.name);
    CHECK(violated.has_value());
    CHECK(violated.value_or(!expected) == expected);
  }
}

#ifdef PMFS_PAUSE_POINTS

// True once the operation `id` of a client has ended, or something sleeps in the exclusion of /f and goes on doing so: who
// just passes a lock that an earlier fault is about to drop is not what the test has forced.
inline bool ended_or_waits(Manager& m, ClientProcess& c, const std::string& id) {
  constexpr int kForGood = 20;
  for (int i = 0, waiting = 0; i < 4000; ++i) {
    if (c.cmd("poll " + id) == "done") return true;
    waiting = m.waiters("/f") > 0 ? waiting + 1 : 0;
    if (waiting == kForGood) return true;
    ::usleep(1000);
  }
  return false;
}

// R has a manager m and clients a and b. A's access stops at `point` with the old block in its hand; B's operation runs against
// it. Has A then a PTE on a block that belongs to nobody? Nothing: no, and the operation has not waited either.
template <class R>
std::optional<bool> race(R& r, const char* point, const std::string& access, const std::string& op) {
  pause::Gate gate(point);
  r.a->ok("async 1 " + access);
  REQUIRE(gate.wait_arrived());
  r.b->ok("async 1 " + op);
  REQUIRE(ended_or_waits(r.m, *r.b, "1"));
  const bool waited = r.b->cmd("poll 1") == "pending";
  gate.release();
  r.a->cmd("wait 1");
  CHECK(r.b->cmd("wait 1") == "ok");
  const bool violated = r.m.p1_violations(*r.a) > 0;
  CHECK_FALSE((waited && violated));
  return waited || violated ? std::optional(violated) : std::nullopt;
}

#endif

}  // namespace pmfs::test
