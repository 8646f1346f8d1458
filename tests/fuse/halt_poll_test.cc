// When idle processors are asked to poll, and that they are not asked for longer than a train of requests takes. The device is
// a file here: what is written there is what the kernel would have been told.
#include <catch2/catch.hpp>

#include <sys/eventfd.h>

#include <fstream>
#include <string>
#include <vector>

#include "pmfs/fuse/halt_poll.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_dir.h"

using namespace pmfs;
using fuse::HaltPoll;
using fuse::HaltPollWhen;

namespace {

constexpr int64_t kSoon = 1000, kLate = HaltPoll::kLingerNs + 1;
constexpr int32_t kPoll = HaltPoll::kPoll, kNone = HaltPoll::kNoConstraint;

struct Device {
  test::TempDir dir;
  std::string path = (dir / "cpu_dma_latency").string();
  Device() { std::ofstream(path).flush(); }
  std::vector<int32_t> told() const {
    std::vector<int32_t> all;
    std::ifstream in(path, std::ios::binary);
    for (int32_t one; in.read(reinterpret_cast<char*>(&one), sizeof one);) all.push_back(one);
    return all;
  }
};

void train(HaltPoll& h, unsigned requests = HaltPoll::kTrain) {
  for (unsigned i = 0; i < requests; ++i) h.came(kSoon);
}

// Readable if there is a request.
UniqueFd connection(unsigned requests) {
  UniqueFd fd(::eventfd(requests, EFD_CLOEXEC));
  REQUIRE(fd);
  return fd;
}

}  // namespace

TEST_CASE("halt poll: a train is so many requests in a row, each soon") {
  Device device;
  HaltPoll h(HaltPollWhen::kAlways, device.path.c_str());
  train(h, HaltPoll::kTrain - 1);
  h.came(kLate);
  train(h, HaltPoll::kTrain - 1);
  CHECK_FALSE(h.held());
  CHECK(device.told().empty());
  h.came(kSoon);
  CHECK(h.held());
  train(h);  // said once
  CHECK(device.told() == std::vector{kPoll});
}

TEST_CASE("halt poll: given up when no request comes, and taken again") {
  Device device;
  const UniqueFd quiet = connection(0);
  HaltPoll h(HaltPollWhen::kAlways, device.path.c_str());
  h.linger(quiet.get(), 0);  // holds nothing: returns at once
  train(h);
  h.linger(quiet.get(), kSoon);
  CHECK_FALSE(h.held());
  h.give_up();  // nothing to give up
  CHECK(device.told() == std::vector{kPoll, kNone});
  train(h);
  h.linger(quiet.get(), kLate);
  CHECK(device.told() == std::vector{kPoll, kNone, kPoll, kNone});
}

TEST_CASE("halt poll: kept when a request is there") {
  Device device;
  const UniqueFd busy = connection(1);
  HaltPoll h(HaltPollWhen::kAlways, device.path.c_str());
  train(h);
  h.linger(busy.get(), kSoon);
  CHECK(h.held());
  CHECK(device.told() == std::vector{kPoll});
}

TEST_CASE("halt poll: never is never") {
  Device device;
  HaltPoll h(HaltPollWhen::kNever, device.path.c_str());
  train(h, 10 * HaltPoll::kTrain);
  CHECK_FALSE(h.held());
  CHECK(device.told().empty());
}

TEST_CASE("halt poll: a device that can't be opened is an error where it was asked for only") {
  test::TempDir dir;
  const std::string none = (dir / "none").string();
  CHECK(test::error_of([&] { HaltPoll(HaltPollWhen::kAlways, none.c_str()); }) == ENOENT);
  HaltPoll h(HaltPollWhen::kAuto, none.c_str());
  train(h);
  CHECK_FALSE(h.held());
}

// A constraint goes with the descriptor: where the kernel does not take a word, none may stay.
TEST_CASE("halt poll: a word that is not taken leaves no constraint behind") {
  HaltPoll h(HaltPollWhen::kAlways, "/dev/full");
  train(h);
  CHECK_FALSE(h.held());
  train(h);
  CHECK_FALSE(h.held());
}
