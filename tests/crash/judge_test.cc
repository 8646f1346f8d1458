// What the explorer takes for a loss, and what for a step on the way.
#include <catch2/catch.hpp>

#include "tools/crash/state.h"

using namespace pmfs::crash;

namespace {

NodeState file(uint64_t ino, size_t n, int value) {
  NodeState f;
  f.ino = ino;
  f.size = n;
  f.mode = 0100644;
  f.nlink = 1;
  f.data.assign(n, static_cast<std::byte>(value));
  return f;
}

struct Two {
  VolumeState before{{"/", {}}, {"/a", file(2, 100, 1)}, {"/b", file(3, 50, 2)}}, after = before, found = before;
  Two() {
    after["/a"] = file(2, 100, 7);
    after["/a"].ctime_ns = 9;
  }
  bool good(const Partial& p) { return !judge(found, before, after, p); }
};

TEST_CASE("atomic: the old or the new state, nothing else") {
  Two t;
  CHECK(t.good({}));
  t.found = t.after;
  CHECK(t.good({}));
  t.found["/a"].data[3] = std::byte{1};
  CHECK_FALSE(t.good({}));
  CHECK(t.good({"/a", {}, false}));
  CHECK_FALSE(t.good({"/a", {}, true}));  // contents and size change together
}

TEST_CASE("an operation on two files may only touch the times of the one it reads") {
  Two t;
  t.after["/b"].ctime_ns = 5;
  t.found["/b"].ctime_ns = 4;
  const Partial p{"/a", "/b", true};
  CHECK(t.good(p));
  SECTION("a ctime behind the operation") { t.found["/b"].ctime_ns = 6; }
  SECTION("its contents") { t.found["/b"].data[0] = std::byte{9}; }
  SECTION("its attributes") { t.found["/b"].xattrs["user.a"] = {}; }
  SECTION("another file") { t.found["/"].mode = 1; }
  CHECK_FALSE(t.good(p));
}

TEST_CASE("a partial operation on a symbolic link is one on what it leads to, and on nothing else") {
  Two t;
  for (VolumeState* s : {&t.before, &t.after, &t.found}) {
    NodeState& l = (*s)["/l"] = file(9, 1, 'a');
    l.mode = 0120777;
  }
  t.found["/a"].data[3] = std::byte{7};
  CHECK(t.good({"/l", {}, false}));
  CHECK_FALSE(t.good({"/b", {}, false}));
  t.found["/l"].data[0] = std::byte{'b'};
  CHECK_FALSE(t.good({"/l", {}, false}));
}

TEST_CASE("attributes, targets and limits are part of the state") {
  Two t;
  SECTION("an attribute") { t.found["/a"].xattrs["user.a"] = {}; }
  SECTION("a link more") { t.found["/a"].nlink = 2; }
  SECTION("a limit") { t.found["/"].quotas = {"1 1: 5 5"}; }
  SECTION("where a link leads") {
    t.before["/b"].mode = t.after["/b"].mode = t.found["/b"].mode = 0120777;
    t.found["/b"].data[0] = std::byte{9};
  }
  CHECK_FALSE(t.good({"/a", {}, false}));
}

}  // namespace
