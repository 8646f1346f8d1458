// A child process for what may crash or hang.
#include <catch2/catch.hpp>

#include <atomic>

#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/guarded.h"

using namespace pmfs;

TEST_CASE("guarded: what it returns, throws, and dies of") {
  Guarded g = guarded(60, [] { return std::string("done"); });
  CHECK(g.problem.empty());
  CHECK(g.output == "done");
  g = guarded(60, []() -> std::string { fail(ENOSPC, "full"); });
  CHECK(g.problem == "full");
  CHECK(g.error == ENOSPC);
  CHECK_FALSE(g.died);
  g = guarded(60, []() -> std::string { ::_exit(3); });
  CHECK(g.died);
}

TEST_CASE("guarded: a loop without an end is ended after its share of a processor, however busy the machine; sleeping is none") {
  Guarded g = guarded(
      600,
      []() -> std::string {
        std::atomic<bool> go = true;
        while (go.load()) {
        }
        return std::string();
      },
      1);
  CHECK(g.died);
  CHECK(g.problem == "still running after 1 s of a processor");
  g = guarded(
      600,
      [] {
        ::usleep(1'500'000);
        return std::string("awake");
      },
      1);
  CHECK(g.output == "awake");
}
