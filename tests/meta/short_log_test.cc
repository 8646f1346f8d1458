// Short transactions: what a manager that dies in the middle of one leaves, rollback, and what does not fit.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

#include "pmfs/meta/directory.h"
#include "pmfs/meta/inode_table.h"
#include "pmfs/meta/short_log.h"
#include "pmfs/meta/superblock.h"
#include "tests/meta/meta_fixture.h"
#include "tests/meta/pool_image.h"

namespace pmfs::meta::test {
namespace {

struct Pool {
  TempDir dir;
  std::filesystem::path path = dir / "meta";
  Pool() { Store::format(path, {1024, 1, false}); }

  // Runs `f` on the open pool in a process that dies where `f` does, or after it.
  template <class F>
  void dies_in(F&& f) {
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      try {
        Media m = open_pool(path);
        f(m);
      } catch (...) {
        ::_exit(1);
      }
      ::_exit(7);
    }
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    REQUIRE((WIFEXITED(status) && WEXITSTATUS(status) == 7));
  }
  void check() {
    const auto findings = Store::open(path)->check();
    for (const auto& f : findings) UNSCOPED_INFO(f);
    CHECK(findings.empty());
  }
};

InodeMedia* root_inode(Media& m) { return InodeTable(m).get(kRootIno); }

// A name comes and the store has changed in every way that a transaction changes it: ranges, an allocation, a free.
void change(Media& m, const char* name) {
  InodeTable table(m);
  InodeMedia* i = root_inode(m);
  snapshot_inode(i);
  i->mtime_ns = 1;
  Directory(m, i).insert(name, kRootIno);
  m.root->growing_to = 99;
}

TEST_CASE("a manager that dies in a short transaction has not begun it, for the next one") {
  Pool p;
  int64_t before = 0;
  {
    Media m = open_pool(p.path);
    before = root_inode(m)->mtime_ns;
  }
  const int when = GENERATE(0, 1, 2);
  p.dies_in([&](Media& m) {
    if (when == 2) transaction::run(m.pop, [&] { m.root->growing_to = 5; });
    transaction::run(m.pop, [&] {
      change(m, "x");
      if (when == 0) ::_exit(7);
      // Whatever is undone by hand may be interrupted too: what is half undone is undone again.
      if (when == 1) {
        root_inode(m)->mtime_ns = before;
        ::_exit(7);
      }
      ::_exit(7);
    });
  });
  Media m = open_pool(p.path);
  CHECK(root_inode(m)->mtime_ns == before);
  CHECK(Directory(m, root_inode(m)).empty());
  CHECK(m.root->growing_to.get() == (when == 2 ? 5u : 0u));
}

TEST_CASE("what a short transaction did is there when it has returned, though its entries still are in the log") {
  Pool p;
  p.dies_in([&](Media& m) { transaction::run(m.pop, [&] { m.root->growing_to = 5; }); });
  {
    Media m = open_pool(p.path);
    CHECK(m.root->growing_to.get() == 5);
  }
  p.dies_in([&](Media& m) {
    transaction::run(m.pop, [&] {
      change(m, "x");
      m.root->growing_to = 0;
    });
    transaction::run(m.pop, [&] {
      InodeMedia* i = root_inode(m);
      snapshot_hot(i);
      Directory(m, i).erase(*Directory(m, i).find("x"));
    });
  });
  p.check();
}

TEST_CASE("a short transaction that fails is undone, and the next one works") {
  Pool p;
  {
    Media m = open_pool(p.path);
    const uint64_t bytes = m.pop.allocated_bytes(), mtime = static_cast<uint64_t>(root_inode(m)->mtime_ns);
    for (int k = 0; k < 3; ++k) {
      CHECK_THROWS_AS(transaction::run(m.pop,
                                       [&] {
                                         change(m, "x");
                                         throw std::runtime_error("no");
                                       }),
                      std::runtime_error);
      CHECK(static_cast<uint64_t>(root_inode(m)->mtime_ns) == mtime);
      CHECK(m.root->growing_to.get() == 0);
      CHECK(m.pop.allocated_bytes() == bytes);
    }
    transaction::run(m.pop, [&] { m.root->growing_to = 5; });
    transaction::run(m.pop, [&] {  // made and given back in one
      auto n = make_persistent<Name>(40);
      delete_persistent(m.pop, n);
      m.root->growing_to = 0;
    });
    CHECK(m.pop.allocated_bytes() == bytes);
  }
  p.check();
}

TEST_CASE("a transaction that does not fit the short log is run again as a long one") {
  Pool p;
  Media m = open_pool(p.path);
  const uint64_t word = m.root->commit_word;
  const int what = GENERATE(0, 1, 2, 3);
  int runs = 0;
  std::vector<persistent_ptr<BallastMedia>> made;
  transaction::run(m.pop, [&] {
    ++runs;
    made.clear();
    m.root->growing_to = 5;
    auto* scratch = reinterpret_cast<std::byte*>(m.pop.direct(m.root->logs)->intents);
    if (what == 0) transaction::snapshot(scratch, 4096);  // one too large
    for (int k = 0; what == 1 && k < 70; ++k) transaction::snapshot(scratch + 128 * k, 8);  // too many
    for (int k = 0; what == 2 && k < 20; ++k) transaction::snapshot(scratch + 1000 * k, 1000);  // too much
    for (int k = 0; what == 3 && k < 17; ++k) made.push_back(make_persistent<BallastMedia>());
  });
  CHECK(runs == 2);
  CHECK(m.root->growing_to.get() == 5);
  CHECK(m.root->commit_word != word);  // the first try is over
  runs = 0;
  transaction::run(m.pop, [&] {
    ++runs;
    m.root->growing_to = 0;
    for (auto b : made) delete_persistent(m.pop, b);
  });
  CHECK(runs == (what == 3 ? 2 : 1));
}

TEST_CASE("a commit word that is none, and an entry that leads out of the pool, are damage") {
  Pool p;
  SECTION("the word") {
    {
      PoolImage image(p.path);
      image.root().commit_word ^= uint64_t{1} << GENERATE(0, 7, 16, 17, 40);
    }
    CHECK(error_of([&] { open_pool(p.path); }) == EUCLEAN);
  }
  SECTION("an entry") {
    const uint64_t bytes = std::filesystem::file_size(p.path);
    const uint64_t off = std::array{bytes, bytes - 8, UINT64_MAX - 8}[GENERATE(0u, 1u, 2u)];
    const bool right_sum = GENERATE(true, false);
    {
      PoolImage image(p.path);
      auto* e = reinterpret_cast<ShortLogEntry*>(image.at(image.root().logs)->short_log.entries);
      *e = {off, (image.root().commit_word >> 16) + 1, 16, 0, {}};
      const auto seed = static_cast<uint32_t>(image.superblock().hash_key[0]);
      e->checksum = static_cast<uint32_t>(mixed_sum(e->data, 16, mixed_sum(e, offsetof(ShortLogEntry, checksum), seed)));
      if (!right_sum) e->checksum ^= 1;
    }
    if (right_sum) {
      CHECK(error_of([&] { open_pool(p.path); }) == EUCLEAN);
    } else {
      p.check();  // no entry: one that had not been written to its end
    }
  }
}

}  // namespace
}  // namespace pmfs::meta::test
