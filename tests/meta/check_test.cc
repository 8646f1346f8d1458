// check() names every kind of damage.
#include <algorithm>

#include "tests/meta/pool_image.h"

namespace pmfs::meta::test {
namespace {

// A volume with a bit of everything, closed.
struct Sample {
  TempDir dir;
  std::filesystem::path path = dir / "meta";
  Ino file{}, other{}, subdir{}, orphan{};
  Sample() {
    Store::format(path, {65536, 1, false});
    auto s = Store::open(path);
    file = s->create(kRootIno, "file", 0600, 0, 0);
    other = s->create(kRootIno, "other", 0600, 0, 0);
    subdir = s->mkdir(kRootIno, "dir", 0700, 0, 0);
    orphan = s->create(subdir, "gone", 0600, 0, 0);
    for (Ino i : {file, other})
      for (uint64_t k = 0; k < 3; ++k)
        s->commit_extent(i, {Pgoff(k * 10), s->reserve(Pfn(to_u64(i) * 100 + k * 10), 4, 1).first, 4, false},
                         std::nullopt);
    s->unlink(subdir, "gone");
    s->remove_extents(file, pages(0, 2), std::nullopt);
    REQUIRE(s->check().empty());
  }
  std::vector<std::string> findings() {
    PoolImage(path).seal_all();
    return Store::open(path)->check();
  }
};

bool has(const std::vector<std::string>& findings, const std::string& text) {
  for (const auto& f : findings) UNSCOPED_INFO(f);
  return std::any_of(findings.begin(), findings.end(), [&](const std::string& f) { return f.find(text) != f.npos; });
}

std::string inode(Ino i) { return "inode " + std::to_string(to_u64(i)) + ": "; }

TEST_CASE("check finds a block with two owners and names both places") {
  Sample s;
  {
    PoolImage image(s.path);
    image.at(image.inode(s.other).map.root)->records[1].a = image.at(image.inode(s.file).map.root)->records[1].a;
  }
  auto f = s.findings();
  CHECK(has(f, inode(s.other) + "block 210 belongs to something else too"));
  CHECK(has(f, "block 310: used in the bitmap, but nobody's"));
}

TEST_CASE("check finds extents that overlap, are impossible, or lie outside of the region") {
  Sample s;
  PoolImage image(s.path);
  Record* r = image.at(image.inode(s.other).map.root)->records;
  SECTION("overlap") {
    r[0].b = 14;
    auto f = s.findings();
    CHECK(has(f, inode(s.other) + "extents overlap at page 10"));
    CHECK(has(f, "i_blocks is 12"));
  }
  SECTION("empty") {
    r[0].b = 0;
    CHECK(has(s.findings(), inode(s.other) + "extent at page 0 of 0 pages is impossible"));
  }
  SECTION("outside") {
    r[0].a = 65535;
    CHECK(has(s.findings(), inode(s.other) + "blocks 65535 to 65538 are outside"));
  }
  SECTION("order") {
    r[1].key = 99;
    CHECK(has(s.findings(), inode(s.other) + "index key 0x63 is out of order"));
  }
  SECTION("a node that is none") {
    image.inode(s.other).map.root.off = 1 << 22;
    CHECK(has(s.findings(), inode(s.other) + "index node at 0x400000 is damaged"));
  }
  SECTION("a node outside of the pool") {
    image.inode(s.other).map.root.off = uint64_t{1} << 60;
    CHECK(has(s.findings(), "is damaged"));
  }
  SECTION("a wrong count") {
    image.inode(s.other).map.count = 77;
    CHECK(has(s.findings(), inode(s.other) + "3 index records, but 77 counted"));
  }
}

TEST_CASE("check finds a bitmap and counts that are wrong") {
  Sample s;
  PoolImage image(s.path);
  GroupMedia& g = image.at(image.root().groups)->group[0];
  SECTION("a used block that is free in the bitmap") {
    image.at(g.bitmap)->word[310 / 64] ^= uint64_t{1} << (310 % 64);
    CHECK(has(s.findings(), "block 310: free in the bitmap, but owned"));
  }
  SECTION("a lost block") {
    image.at(g.bitmap)->word[20'000 / 64] ^= uint64_t{1} << (20'000 % 64);
    CHECK(has(s.findings(), "block 20000: used in the bitmap, but nobody's"));
  }
  SECTION("the group's count") {
    g.used += 3;
    CHECK(has(s.findings(), "block group 0: 24 blocks used, but 27 counted"));
  }
}

TEST_CASE("check finds wrong link counts, lost inodes and names that lead nowhere") {
  Sample s;
  PoolImage image(s.path);
  SECTION("nlink") {
    image.inode(s.file).nlink = 9;
    CHECK(has(s.findings(), inode(s.file) + "nlink is 9, should be 1"));
  }
  SECTION("nlink of a directory") {
    image.inode(kRootIno).nlink = 2;
    CHECK(has(s.findings(), inode(kRootIno) + "nlink is 2, should be 3"));
  }
  SECTION("a name for an inode that is free") {
    Record* r = image.at(image.inode(kRootIno).map.root)->records;
    uint64_t lost = r[0].b;
    r[0].b = 15;
    auto f = s.findings();
    CHECK(has(f, "is for inode 15, which does not exist"));
    CHECK(has(f, inode(Ino{lost}) + "neither a name nor on the orphan list"));
  }
  SECTION("a name under the wrong hash") {
    image.at(persistent_ptr<Name>{image.at(image.inode(kRootIno).map.root)->records[0].a})->bytes[0] ^= 1;
    CHECK(has(s.findings(), "has the hash of another name"));
  }
  SECTION("a wrong parent") {
    image.inode(s.subdir).parent = to_u64(s.file);
    CHECK(has(s.findings(), inode(s.subdir) + "its parent is 2, but it is in directory 1"));
  }
  SECTION("a directory in itself") {
    Tree& root = image.inode(kRootIno).map;
    Record* r = image.at(root.root)->records;
    size_t at = r[0].b == to_u64(s.subdir) ? 0 : r[1].b == to_u64(s.subdir) ? 1 : 2;
    r[at].b = to_u64(s.file);
    CHECK(has(s.findings(), inode(s.subdir) + "a directory that can't be reached from the root"));
  }
  SECTION("an unknown type") {
    image.inode(s.file).mode = 0777;
    CHECK(has(s.findings(), inode(s.file) + "mode 777 is of no known type"));
  }
}

TEST_CASE("check finds lists that are wrong") {
  Sample s;
  PoolImage image(s.path);
  SECTION("an orphan that is not on the list") {
    PoolImage::set(image.root().orphan_head, 0);
    CHECK(has(s.findings(), "orphan list: 1 inodes are orphans, 0 are on the list"));
  }
  SECTION("a file on the list that is none") {
    PoolImage::set(image.root().orphan_head, to_u64(s.file));
    CHECK(has(s.findings(), inode(s.file) + "on the orphan list, but it is not an orphan"));
  }
  SECTION("a lost deferred-free record") {
    PoolImage::set(image.root().deferred_head, {0});
    auto f = s.findings();
    CHECK(has(f, "block 200: used in the bitmap, but nobody's"));
    CHECK(has(f, "block 201: used in the bitmap, but nobody's"));
  }
  SECTION("free inodes that are not on the list") {
    PoolImage::set(image.root().inodes.next, image.root().inodes.next + 5);
    CHECK(has(s.findings(), "inode table: 5 inodes are free, 0 are on the list"));
  }
  SECTION("an inode chunk that is missing") {
    image.at(image.root().inodes.top)->down[0].off = 12345;
    CHECK(has(s.findings(), "inode table: the page of inode 0 is missing"));
  }
}

}  // namespace
}  // namespace pmfs::meta::test
