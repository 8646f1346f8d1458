// Quotas of users and projects: what is counted, what is refused, what moves along.
#include <sys/stat.h>

#include <random>

#include "pmfs/meta/store_impl.h"
#include "tests/meta/meta_fixture.h"
#include "tests/meta/pool_image.h"

namespace pmfs::meta::test {
namespace {

const Credentials kRoot{};
const Credentials kAnn{100, 10};
const Credentials kBob{200, 10};

Quota quota(Volume& v, QuotaKind kind, uint32_t id) {
  for (const Quota& q : v->quotas())
    if (q.kind == kind && q.id == id) return q;
  return {};
}

TEST_CASE("a user's blocks and inodes are counted from the start, and limited from then on") {
  Volume v;
  Ino f = v->create(kRootIno, "f", 0600, kAnn);
  v.add(f, 0, 10);
  v->set_quota(QuotaKind::kUser, 100, 15, 3);
  CHECK(quota(v, QuotaKind::kUser, 100).blocks == 10);
  CHECK(quota(v, QuotaKind::kUser, 100).inodes == 1);
  v.add(f, 20, 5);
  CHECK(error_of([&] { v.add(f, 40, 1); }) == EDQUOT);
  CHECK(v->getattr(f).blocks == 15);
  CHECK_FALSE(v->lookup_extent(f, Pgoff(40)));
  v->create(kRootIno, "g", 0600, kAnn);
  v->mkdir(kRootIno, "d", 0700, kAnn);
  CHECK(error_of([&] { v->create(kRootIno, "h", 0600, kAnn); }) == EDQUOT);
  CHECK(error_of([&] { v->lookup(kRootIno, "h"); }) == ENOENT);
  v->create(kRootIno, "h", 0600, kBob);  // another user is not
  v.free(f, pages(0, 10));
  v.add(f, 40, 10);
  v.reopen();
  CHECK(quota(v, QuotaKind::kUser, 100).blocks == 15);
  CHECK(error_of([&] { v.add(f, 60, 1); }) == EDQUOT);
  v->unlink(kRootIno, "g");
  CHECK(error_of([&] { v->create(kRootIno, "i", 0600, kAnn); }) == EDQUOT);  // an orphan still counts
  for (Ino o : v->orphans()) v->free_inode(o);
  v->create(kRootIno, "i", 0600, kAnn);
  v->set_quota(QuotaKind::kUser, 100, 0, 0);
  CHECK(v->quotas().empty());
  v.add(f, 60, 100);
}

TEST_CASE("chown moves what an inode has from one user to the other") {
  Volume v;
  v->set_quota(QuotaKind::kUser, 100, 100, 100);
  v->set_quota(QuotaKind::kUser, 200, 5, 1);
  Ino f = v->create(kRootIno, "f", 0600, kAnn);
  v.add(f, 0, 10);
  v->set_attr(f, {{}, 200, {}, {}, {}}, kRoot);  // by root: not refused, but counted
  CHECK(quota(v, QuotaKind::kUser, 100).blocks == 0);
  CHECK(quota(v, QuotaKind::kUser, 100).inodes == 0);
  CHECK(quota(v, QuotaKind::kUser, 200).blocks == 10);
  CHECK(error_of([&] { v.add(f, 20, 1); }) == EDQUOT);
  v.free(f, pages(0, 6));
  v.add(f, 20, 1);
}

TEST_CASE("a project is handed on to what is made in its directory, and names don't leave it") {
  Volume v;
  Ino d = v->mkdir(kRootIno, "d", 0777, kRoot);
  v->set_project(d, {7, true}, kRoot);
  v->set_quota(QuotaKind::kProject, 7, 10, 4);
  Ino s = v->mkdir(d, "s", 0777, kAnn), f = v->create(s, "f", 0600, kBob);
  CHECK(v->project(s).id == 7);
  CHECK(v->project(s).inherit);
  CHECK(v->project(f).id == 7);
  CHECK(quota(v, QuotaKind::kProject, 7).inodes == 3);
  v.add(f, 0, 10);
  CHECK(error_of([&] { v.add(f, 20, 1); }) == EDQUOT);
  Ino out = v->create(kRootIno, "out", 0600, kAnn);
  CHECK(error_of([&] { v->link(out, d, "in", kRoot); }) == EXDEV);
  CHECK(error_of([&] { v->rename(kRootIno, "out", d, "in", 0, kRoot); }) == EXDEV);
  v->create(d, "own", 0600, kAnn);
  CHECK(error_of([&] { v->rename(kRootIno, "out", d, "own", kRenameExchange, kRoot); }) == EXDEV);
  CHECK(error_of([&] { v->rename(d, "own", kRootIno, "out", kRenameExchange, kRoot); }) == EXDEV);
  v->rename(s, "f", d, "f", 0, kRoot);  // within it is fine
  CHECK(error_of([&] { v->symlink(d, "l", "t", kAnn); }) == EDQUOT);
  CHECK(error_of([&] { v->set_project(out, {7, false}, kAnn); }) == EPERM);
  CHECK(error_of([&] { v->set_project(out, {7, true}, kRoot); }) == EINVAL);
  v->set_project(out, {7, false}, kRoot);
  CHECK(quota(v, QuotaKind::kProject, 7).inodes == 5);
  v->set_project(f, {0, false}, kRoot);
  CHECK(quota(v, QuotaKind::kProject, 7).blocks == 0);
  CHECK(error_of([&] { v->set_quota(QuotaKind::kProject, 0, 1, 1); }) == EINVAL);
}

TEST_CASE("whatever is done, usage is the sum over the inodes") {
  Volume v(65536);
  for (uint32_t u : {100u, 200u}) v->set_quota(QuotaKind::kUser, u, 200, 30);
  v->set_quota(QuotaKind::kProject, 7, 150, 20);
  Ino d = v->mkdir(kRootIno, "d", 0777, kRoot);
  v->set_project(d, {7, true}, kRoot);
  std::mt19937 rng(2);
  std::map<std::string, Ino> files;
  int refused = 0;
  for (int step = 0; step < 2000; ++step) {
    std::string name = "f" + std::to_string(rng() % 60);
    Ino dir = rng() % 2 != 0 ? d : kRootIno;
    try {
      auto it = files.find(name);
      if (it == files.end()) {
        files[name] = v->create(dir, name, 0600, rng() % 2 != 0 ? kAnn : kBob);
        continue;
      }
      uint64_t at = rng() % 40;
      switch (rng() % 6) {
        case 0:
        case 1:
          if (!v->lookup_extent(it->second, Pgoff(at))) v.add(it->second, at, 1, rng() % 2 != 0);
          break;
        case 2: v.free(it->second, pages(at, at + 10)); break;
        case 3: v->set_attr(it->second, {{}, rng() % 2 != 0 ? 100u : 200u, {}, {}, {}}, kRoot); break;
        case 4:
          if (auto r = v->collapse_range(it->second, pages(at, at + 3), 0); r.id != 0) v->finish_free(r.id);
          break;
        default: {
          Ino in = error_of([&] { v->lookup(d, name); }) == 0 ? d : kRootIno;
          v->unlink(in, name);
          v.free(it->second, kWholeFile);
          v->free_inode(it->second);
          files.erase(it);
        }
      }
    } catch (const Error& e) {
      REQUIRE(e.err() == EDQUOT);
      ++refused;
    }
    if (step % 200 == 0) {
      auto findings = v->check();  // compares every usage with the sum
      for (auto& f : findings) UNSCOPED_INFO(f);
      REQUIRE(findings.empty());
      v.reopen();
    }
  }
  CHECK(refused > 10);
}

TEST_CASE("check finds a usage that is not the sum") {
  TempDir dir;
  Store::format(dir / "meta", {1000, 1, false});
  {
    auto s = Store::open(dir / "meta");
    s->create(kRootIno, "f", 0600, kAnn);
    s->set_quota(QuotaKind::kUser, 100, 10, 10);
    REQUIRE(s->check().empty());
  }
  {
    PoolImage image(dir / "meta");
    Node* root = image.at(image.root().quotas.root);
    image.at(persistent_ptr<QuotaMedia>{root->records[0].a})->inodes = 5;
    image.seal_all();
  }
  auto findings = Store::open(dir / "meta")->check();
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].find("user 100") != std::string::npos);
}

}  // namespace
}  // namespace pmfs::meta::test
