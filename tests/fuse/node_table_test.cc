// What the kernel knows stays what it is, whatever native clients do to its names.
#include <catch2/catch.hpp>

#include <thread>

#include "pmfs/base/error.h"
#include "pmfs/fuse/node_table.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_dir.h"

using namespace pmfs;
using test::error_of;

namespace {

const meta::Credentials kRoot{};

struct Fixture {
  test::TempDir dir;
  std::unique_ptr<MountedVolume> v;
  Fixture() {
    format_volume(dir.path() / "vol", {8192, true, false});
    v = std::make_unique<MountedVolume>(dir.path() / "vol", VolumeOptions{});
  }
  Ino make(const char* name) { return v->store().create(kRootIno, name, 0644, kRoot); }
};

}  // namespace

TEST_CASE("a file that the kernel knows outlives its name, until it is forgotten") {
  Fixture f;
  fuse::NodeTable nodes(*f.v);
  const Ino ino = f.make("a");
  CHECK(nodes.lookup(kRootIno, "a") == ino);
  CHECK(nodes.lookup(kRootIno, "a") == ino);
  const std::vector<std::byte> data(5000, std::byte{7});
  f.v->write(*nodes.file(ino), data, 0);
  f.v->unlink("/a");
  CHECK(f.make("b") != ino);  // the number is not free
  std::vector<std::byte> out(5000);
  CHECK(f.v->read(*nodes.file(ino), out, 0) == 5000);
  CHECK(out == data);
  nodes.forget(ino, 1);
  CHECK(f.v->getattr(*nodes.file(ino)).nlink == 0);
  nodes.forget(ino, 1);
  CHECK(error_of([&] { nodes.file(ino); }) == ENOENT);
  CHECK(f.v->store().orphans().empty());
  CHECK(f.v->store().check().empty());
}

TEST_CASE("a directory that the kernel knows keeps its number when it is removed") {
  Fixture f;
  fuse::NodeTable nodes(*f.v);
  f.v->mkdir("/d", 0755, kRoot);
  const Ino d = nodes.lookup(kRootIno, "d");
  CHECK(error_of([&] { nodes.file(d); }) == EISDIR);
  f.v->rmdir("/d", kRoot);
  CHECK(f.make("x") != d);
  CHECK(error_of([&] { nodes.lookup(d, "y"); }) == ENOENT);
  CHECK(error_of([&] { f.v->store().create(d, "y", 0644, kRoot); }) == ENOENT);  // nothing is made in it any more
  CHECK(f.v->store().orphans().size() == 1);
  nodes.forget(d, 1);
  CHECK(f.v->store().orphans().empty());
  CHECK(f.v->store().check().empty());
}

TEST_CASE("a table that goes gives everything back") {
  Fixture f;
  {
    fuse::NodeTable nodes(*f.v);
    f.make("a");
    f.v->mkdir("/d", 0755, kRoot);
    nodes.lookup(kRootIno, "a");
    nodes.lookup(kRootIno, "d");
    f.v->unlink("/a");
    f.v->rmdir("/d", kRoot);
    CHECK(f.v->store().orphans().size() == 2);
  }
  CHECK(f.v->store().orphans().empty());
}

TEST_CASE("lookups, forgets and removals at once leave nothing behind") {
  Fixture f;
  {
    fuse::NodeTable nodes(*f.v);
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 300; ++i) {
          try {
            nodes.forget(nodes.lookup(kRootIno, "a"), 1);
          } catch (const Error& e) {
            if (e.err() != ENOENT) std::abort();
          }
        }
      });
    }
    for (int i = 0; i < 200; ++i) {
      if (i % 3 == 2) {
        f.v->mkdir("/a", 0755, kRoot);
        f.v->rmdir("/a", kRoot);
      } else {
        f.make("a");
        f.v->unlink("/a");
      }
    }
    for (auto& t : threads) t.join();
  }
  CHECK(f.v->store().orphans().empty());
  CHECK(f.v->store().check().empty());
  CHECK(f.v->space().blocks_used == 0);
}
