#include <catch2/catch.hpp>

#include "pmfs/base/error.h"

using namespace pmfs;

TEST_CASE("an error carries the errno and a sentence") {
  try {
    fail(ENOSPC, "volume \"{}\" is full: {} blocks free", "v", 0);
  } catch (const Error& e) {
    CHECK(e.err() == ENOSPC);
    CHECK(e.message() == "volume \"v\" is full: 0 blocks free");
    CHECK(std::string(e.what()).find(e.message()) != std::string::npos);
    return;
  }
  FAIL("fail() returned");
}

TEST_CASE("an error is a system_error of the generic category") {
  Error e(EAGAIN, "busy");
  CHECK(e.code() == std::errc::resource_unavailable_try_again);
}
