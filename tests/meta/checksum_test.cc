// A changed bit is an error that names inode and structure, of that file only; and the checksums are in step with every
// change that the store makes (each other test of this folder ends with check(), which compares all of them).
#include <algorithm>
#include <array>
#include <cstring>

#include "pmfs/meta/hash.h"
#include "tests/meta/pool_image.h"

namespace pmfs::meta::test {
namespace {

const Credentials kRoot{};

// Two files and two directories, alike, closed; a link and an attribute.
struct Sample {
  TempDir dir;
  std::filesystem::path path = dir / "meta";
  Ino f{}, g{}, d{}, e{}, l{};
  Sample() {
    Store::format(path, {65536, 1, false});
    auto s = Store::open(path);
    f = s->create(kRootIno, "f", 0600, 0, 0);
    g = s->create(kRootIno, "g", 0600, 0, 0);
    d = s->mkdir(kRootIno, "d", 0700, 0, 0);
    e = s->mkdir(kRootIno, "e", 0700, 0, 0);
    l = s->symlink(kRootIno, "l", "where it leads", kRoot);
    for (Ino i : {f, g})
      for (uint64_t k = 0; k < 10; ++k)
        s->commit_extent(i, {Pgoff(k * 10), s->reserve(Pfn(to_u64(i) * 1000 + k * 10), 4, 1).first, 4, false}, 40960);
    for (Ino i : {d, e}) s->create(i, "in it", 0600, 0, 0);
    s->set_xattr(f, "user.a", std::vector<std::byte>(6000, std::byte{7}), 0, kRoot);
    s->set_quota(QuotaKind::kUser, 3, 10, 10);
    REQUIRE(s->check().empty());
  }
  bool found(const std::string& text) {
    auto all = Store::open(path)->check();
    for (const auto& x : all) UNSCOPED_INFO(x);
    return std::any_of(all.begin(), all.end(), [&](const auto& x) { return x.find(text) != x.npos; });
  }
};

std::string inode(Ino i) { return "inode " + std::to_string(to_u64(i)); }

template <class F>
void check_eio(const std::string& text, F&& f) {
  CHECK(error_of(f) == EIO);
  CHECK_THAT(message_of(f), Catch::Contains(text) && Catch::Contains("pmfs fsck"));
}

TEST_CASE("a sum of what has sums of its own sees what a CRC can't: a change that the CRC inside has followed") {
  std::array<uint32_t, 5> a{1, 2, 3, 4, 0}, b{1, 2, 77, 4, 0};
  for (auto* x : {&a, &b}) (*x)[4] = crc32c(x->data(), 16);
  CHECK(crc32c(a.data(), sizeof a) == crc32c(b.data(), sizeof b));  // why
  CHECK(mixed_sum(a.data(), sizeof a) != mixed_sum(b.data(), sizeof b));
  // Neither order nor length is lost, nor a seed.
  const std::array<uint64_t, 3> c{1, 2, 0}, d{2, 1, 0};
  CHECK(mixed_sum(c.data(), 16) != mixed_sum(d.data(), 16));
  CHECK(mixed_sum(c.data(), 16) != mixed_sum(c.data(), 24));
  CHECK(mixed_sum(c.data(), 13) != mixed_sum(c.data(), 14));
  CHECK(mixed_sum(c.data(), 16, 1) != mixed_sum(c.data(), 16, 2));
  CHECK(mixed_sum(c.data(), 16, 1) == mixed_sum(c.data(), 16, 1));
}

TEST_CASE("CRC-32C: the known values, the same by instruction and by table, in pieces") {
  CHECK(crc32c("123456789", 9) == 0xe3069283);
  CHECK(crc32c_by_table("123456789", 9) == 0xe3069283);
  std::vector<uint8_t> zeros(32, 0), bytes(1000);
  CHECK(crc32c(zeros.data(), 32) == 0x8a9136aa);  // RFC 3720, B.4
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 256);
  for (size_t n : {0, 1, 7, 8, 9, 63, 64, 65, 1000}) {
    CHECK(crc32c(bytes.data(), n) == crc32c_by_table(bytes.data(), n));
    CHECK(crc32c(bytes.data() + n / 3, n - n / 3, crc32c(bytes.data(), n / 3)) == crc32c(bytes.data(), n));
  }
}

TEST_CASE("a changed bit anywhere in the record of an inode is EIO for that file, and for no other") {
  Sample s;
  for (size_t at = 0; at < sizeof(InodeMedia); at += 9) {
    auto flip = [&] { reinterpret_cast<uint8_t*>(&PoolImage(s.path).inode(s.f))[at] ^= 0x10; };
    INFO("byte " << at);
    flip();
    {
      auto v = Store::open(s.path);
      check_eio(inode(s.f) + ": its record is damaged", [&] { v->getattr(s.f); });
      check_eio(inode(s.f), [&] { v->unlink(kRootIno, "f"); });
      check_eio(inode(s.f), [&] { v->set_times(s.f, 1, 1); });
      CHECK(v->getattr(s.g).size == 40960);
      CHECK(v->list(kRootIno, 0, 100).size() == 5);
      v->create(kRootIno, "new", 0600, 0, 0);
      v->unlink(kRootIno, "new");
      v->free_inode(v->orphans().at(0));
    }
    flip();
  }
  CHECK(Store::open(s.path)->check().empty());
}

TEST_CASE("a changed bit in an index of a file or a directory is EIO for that one") {
  Sample s;
  PoolImage image(s.path);
  Record* extents = image.at(image.inode(s.f).map.root)->records;
  Record* names = image.at(image.inode(s.d).map.root)->records;
  SECTION("file") {
    extents[5].a ^= 1 << 12;
    auto v = Store::open(s.path);
    check_eio(inode(s.f) + ": the index node", [&] { v->lookup_extent(s.f, Pgoff(0)); });
    check_eio(inode(s.f), [&] { v->remove_extents(s.f, kWholeFile, 0); });
    CHECK(v->getattr(s.f).size == 40960);  // its record is in order
    CHECK(v->lookup_extent(s.g, Pgoff(0)));
    CHECK(v->extents(s.g, kWholeFile, 100).size() == 10);
  }
  SECTION("directory") {
    names[0].b = to_u64(s.f);
    auto v = Store::open(s.path);
    check_eio(inode(s.d) + ": the index node", [&] { v->lookup(s.d, "in it"); });
    check_eio(inode(s.d), [&] { v->create(s.d, "more", 0600, 0, 0); });
    CHECK(to_u64(v->lookup(s.e, "in it")) > 0);
    CHECK(v->list(kRootIno, 0, 100).size() == 5);
  }
  SECTION("a right checksum over the same change is believed: it was the checksum that told") {
    extents[5].a ^= 1 << 12;
    image.seal_all();
    auto v = Store::open(s.path);
    CHECK(v->lookup_extent(s.f, Pgoff(0)));
  }
  SECTION("check") {
    extents[5].a ^= 1 << 12;
    CHECK(s.found("the checksum does not match"));
  }
}

TEST_CASE("what is in the wrong place is noticed") {
  Sample s;
  PoolImage image(s.path);
  SECTION("records of two inodes") {
    std::swap(image.inode(s.f), image.inode(s.g));
    auto v = Store::open(s.path);
    check_eio("is the one of " + inode(s.g), [&] { v->getattr(s.f); });
  }
  SECTION("index nodes of two files") {
    std::swap(*image.at(image.inode(s.f).map.root), *image.at(image.inode(s.g).map.root));
    auto v = Store::open(s.path);
    check_eio(inode(s.f), [&] { v->lookup_extent(s.f, Pgoff(0)); });
    check_eio(inode(s.g), [&] { v->lookup_extent(s.g, Pgoff(0)); });
  }
}

TEST_CASE("an earlier version of a whole object, valid in itself, contradicts the sum of all checksums") {
  Sample s;
  std::vector<std::byte> before;
  size_t at = 0, bytes = 0;
  auto keep = [&](auto* object, size_t n) {
    PoolImage image(s.path);
    auto* p = reinterpret_cast<std::byte*>(object(image));
    at = image.offset_of(p);
    bytes = n;
    before.assign(p, p + n);
  };
  auto change = [&](auto&& f) { f(*Store::open(s.path)); };
  SECTION("the first line of an inode, with the size") {
    keep(+[](PoolImage& i) -> void* { return &i.inode(Ino{2}); }, 64);
    REQUIRE(to_u64(s.f) == 2);
    change([&](Store& v) { v.grow_size(s.f, 50000); });
  }
  SECTION("the extents of a file, one of which has been written since") {
    change([&](Store& v) { v.commit_extent(s.f, {Pgoff(500), v.reserve(Pfn(9000), 4, 1).first, 4, true}, std::nullopt); });
    keep(+[](PoolImage& i) -> void* { return i.at(i.inode(Ino{2}).map.root); }, sizeof(Node));
    change([&](Store& v) { v.mark_written(s.f, {Pgoff(500), Pgoff(504)}, std::nullopt); });
  }
  SECTION("a limit") {
    keep(+[](PoolImage& i) -> void* {
      return i.at(persistent_ptr<QuotaMedia>{i.at(i.root().quotas.root)->records[0].a});
    }, sizeof(QuotaMedia));
    change([&](Store& v) { v.set_quota(QuotaKind::kUser, 3, 20, 20); });
  }
  SECTION("the sum itself, with all of the root that has changed") {
    keep(+[](PoolImage& i) -> void* { return &i.root(); }, sizeof(Root));
    change([&](Store& v) { v.grow_size(s.f, 50000); });
  }
  REQUIRE(Store::open(s.path)->check().empty());
  std::memcpy(PoolImage(s.path).at(persistent_ptr<std::byte>{at}), before.data(), bytes);
  CHECK(s.found("something is as it was earlier"));
}

TEST_CASE("values and targets have checksums too") {
  Sample s;
  PoolImage image(s.path);
  SECTION("the value of an attribute") {
    auto* x = image.at(persistent_ptr<XattrMedia>{image.at(image.inode(s.f).xattrs.root)->records[0].a});
    SECTION("beside its name") { *(reinterpret_cast<std::byte*>(x) + offsetof(XattrMedia, bytes) + x->name_bytes + 20) ^= std::byte{1}; }
    SECTION("its rest") { image.at(x->more)->bytes[9] ^= std::byte{1}; }
    auto v = Store::open(s.path);
    check_eio(inode(s.f) + ": the value of attribute user.a", [&] { v->get_xattr(s.f, "user.a", kRoot); });
    CHECK_FALSE(v->check().empty());
    v->set_xattr(s.f, "user.a", {}, 0, kRoot);
    CHECK(v->check().empty());
  }
  SECTION("the target of a symbolic link") {
    image.at(image.inode(s.l).target)->bytes[2] ^= 1;
    auto v = Store::open(s.path);
    check_eio(inode(s.l) + ": its target is damaged", [&] { v->readlink(s.l); });
    CHECK_FALSE(v->check().empty());
  }
}

TEST_CASE("what the volume can't do without must be right for a mount") {
  Sample s;
  {
    auto v = Store::open(s.path);
    v->remove_extents(s.g, pages(0, 4), std::nullopt);
  }
  auto refused = [&](const std::string& text) {
    CHECK(error_of([&] { Store::open(s.path); }) == EUCLEAN);
    CHECK_THAT(message_of([&] { Store::open(s.path); }), Catch::Contains(text));
  };
  PoolImage image(s.path);
  SECTION("the root object") {
    PoolImage::set(image.root().inodes.free, 7);
    refused("root object");
  }
  SECTION("the deferred-free list") {
    image.at(image.root().deferred_head.get())->entry[0].a ^= 1;
    refused("deferred-free list");
  }
  SECTION("quotas") {
    image.at(persistent_ptr<QuotaMedia>{image.at(image.root().quotas.root)->records[0].a})->block_limit = 99;
    refused("quotas");
  }
  SECTION("nothing") { CHECK(Store::open(s.path)->check().empty()); }
}

TEST_CASE("a transaction that fails leaves checksums that are right") {
  Volume v(65536, 8 << 20);
  Ino f = v.file("f");
  v->set_quota(QuotaKind::kUser, 1, 5, 100);
  CHECK(error_of([&] { v.add(f, 0, 20); }) == EDQUOT);
  CHECK(v->check().empty());
  v.add(f, 0, 3);
  CHECK(v->check().empty());
}

}  // namespace
}  // namespace pmfs::meta::test
