// What -o takes: fstab's words pass, what would make the mount lie does not.
#include <catch2/catch.hpp>

#include "pmfs/fuse/mount_options.h"
#include "tests/support/error_of.h"

using namespace pmfs;
using fuse::parse;
using test::error_of;

namespace {
fuse::MountOptions with(std::vector<std::string> options) { return {"/mnt", std::move(options), 4}; }
}  // namespace

TEST_CASE("mount options: the kernel's go on, fstab's own do not") {
  const auto p = parse(with({"ro,allow_other", "nosuid", "defaults,_netdev,x-systemd.automount,user,nofail,,comment=a"}));
  CHECK(p.fuse == std::vector<std::string>{"ro", "allow_other", "nosuid"});
  CHECK(p.threads == 4);
}

TEST_CASE("mount options: max_threads") {
  CHECK(parse(with({"max_threads=9"})).threads == 9);
  CHECK(parse(with({"max_threads=9"})).fuse.empty());
  for (const char* bad : {"max_threads", "max_threads=", "max_threads=0", "max_threads=9x", "max_threads=1025"}) {
    INFO(bad);
    CHECK(error_of([&] { parse(with({bad})); }) == EINVAL);
  }
}

TEST_CASE("mount options: halt_poll") {
  using fuse::HaltPollWhen;
  CHECK(parse(with({})).halt_poll == HaltPollWhen::kAuto);
  CHECK(parse(with({"ro,halt_poll=never"})).halt_poll == HaltPollWhen::kNever);
  CHECK(parse(with({"halt_poll=never,halt_poll=always"})).halt_poll == HaltPollWhen::kAlways);
  CHECK(parse(with({"halt_poll=always,halt_poll=auto"})).halt_poll == HaltPollWhen::kAuto);
  CHECK(parse(with({"halt_poll=never"})).fuse.empty());
  for (const char* bad : {"halt_poll", "halt_poll=", "halt_poll=yes"}) {
    INFO(bad);
    CHECK(error_of([&] { parse(with({bad})); }) == EINVAL);
  }
}

TEST_CASE("mount options: what would be incoherent, or is pmfs's to say, is refused") {
  for (const char* bad : {"writeback_cache", "kernel_cache", "fsname=x", "subtype=y", "ro,fd=3", "remount,ro"}) {
    INFO(bad);
    CHECK(error_of([&] { parse(with({bad})); }) == EINVAL);
  }
}
