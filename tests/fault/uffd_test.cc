// The manager's end of a userfaultfd whose other end a client has.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "pmfs/fault/uffd.h"
#include "tests/support/error_of.h"

using namespace pmfs;

TEST_CASE("a userfaultfd that its client has made blocking is read without blocking") {
  UniqueFd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  REQUIRE(device);
  UniqueFd fd(::ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC));
  REQUIRE(fd);
  uffdio_api api{};
  api.api = UFFD_API;
  REQUIRE(::ioctl(fd.get(), UFFDIO_API, &api) == 0);
  const int client = fd.get();
  fault::Uffd uffd(std::move(fd));
  uffd_msg m[4];
  ::alarm(60);  // it would sleep for ever: the test dies
  for (int i = 0; i < 3; ++i) {
    REQUIRE(::fcntl(client, F_SETFL, 0) == 0);
    CHECK(uffd.read(m, 4) == 0);
  }
  ::alarm(0);
}

TEST_CASE("what is no userfaultfd is not taken for one") {
  CHECK(test::error_of([] { fault::Uffd(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC))); }) == EINVAL);
}
