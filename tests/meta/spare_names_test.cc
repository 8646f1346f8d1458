// Places of names that went are used for the next names.
#include "pmfs/meta/spare_names.h"
#include "tests/meta/pool_image.h"

namespace pmfs::meta::test {
namespace {

uint64_t used(const Volume& v) { return v->space().meta_bytes_used; }
uint64_t on_the_list(const Volume& v) { return PoolImage(v.path()).root().spare_name_count; }

// A directory that keeps its index node, whatever else comes and goes.
struct Names : Volume {
  Names() {
    file("stays");
    make_and_remove("first");
  }
  void make_and_remove(const std::string& name) {
    file(name);
    (*this)->unlink(kRootIno, name, Credentials{0, 0}, [](Ino, uint32_t) { return true; });
  }
};

TEST_CASE("spare names: a name takes the place of one that went, and nothing of the pool") {
  Names v;
  v.close();
  CHECK(on_the_list(v) == 1);
  v.open();
  const uint64_t before = used(v);
  for (int k = 0; k < 100; ++k) {
    const std::string name(1 + static_cast<size_t>(k), 'n');
    v.make_and_remove(name);
    CHECK(v->find(kRootIno, name) == std::nullopt);
  }
  CHECK(used(v) == before);
  Ino i = v.file("another");
  CHECK(v->lookup(kRootIno, "another") == i);
  v.close();
  CHECK(on_the_list(v) == 0);
  v.open();
  CHECK(v->lookup(kRootIno, "another") == i);
}

TEST_CASE("spare names: a long name has a place of its own, which goes back to the pool") {
  Names v;
  const std::string fits(SpareName::kBytes - offsetof(Name, bytes), 'f'), too_long = fits + "t";
  v.make_and_remove(too_long);  // the heap's own for this size
  const uint64_t before = used(v);
  v.make_and_remove(fits);
  CHECK(used(v) == before);
  Ino i = v.file(too_long);
  CHECK(used(v) > before);
  CHECK(v->lookup(kRootIno, too_long) == i);
  v->unlink(kRootIno, too_long, Credentials{0, 0}, [](Ino, uint32_t) { return true; });
  CHECK(used(v) == before);
  v.close();
  CHECK(on_the_list(v) == 1);
  v.open();
}

TEST_CASE("spare names: the list has an end, the rest goes back to the pool") {
  Names v;
  constexpr uint64_t kMore = 10;
  auto name = [](uint64_t k) { return "n" + std::to_string(k); };
  for (uint64_t k = 0; k < SpareNames::kMost + kMore; ++k) v.file(name(k));
  for (uint64_t k = 0; k < SpareNames::kMost + kMore; ++k) v->unlink(kRootIno, name(k));
  v.close();
  CHECK(on_the_list(v) == SpareNames::kMost);
  v.open();
}

TEST_CASE("spare names: a rename gives one and takes one") {
  Names v;
  Ino i = v.file("here");
  const uint64_t before = used(v);
  for (int k = 0; k < 50; ++k) {
    v->rename(kRootIno, "here", kRootIno, "there");
    v->rename(kRootIno, "there", kRootIno, "here");
  }
  CHECK(v->lookup(kRootIno, "here") == i);
  // While the new name is there the old one is too: one place more, once.
  CHECK(used(v) <= before + 2 * SpareName::kBytes);
}

TEST_CASE("spare names: a damaged list is noticed before anything is stored through it") {
  Names v;
  Ino stays = v->lookup(kRootIno, "stays");
  v.close();
  {
    PoolImage image(v.path());
    Root& root = image.root();
    SpareName* spare = image.at(root.spare_names);
    SECTION("it leads to a name that is somebody's") {
      root.spare_names.off = image.at(image.inode(kRootIno).map.root)->records[0].a;
    }
    SECTION("a place has other contents") { spare->next.off = 64; }
    SECTION("it leads out of the pool") { root.spare_names.off = uint64_t{1} << 50; }
    SECTION("the count is wrong") { root.spare_name_count = 0; }
    root.checksum = checksum_of(root);
  }
  v.open();
  CHECK_FALSE(v->check().empty());
  CHECK(error_of([&] { v.file("new"); }) == EUCLEAN);
  CHECK(v->lookup(kRootIno, "stays") == stays);
  CHECK(v->find(kRootIno, "new") == std::nullopt);
  v.close();
}

TEST_CASE("check finds a list of spare names that is as it was earlier") {
  Names v;
  v.file("second");
  v.make_and_remove("third");
  v.close();
  std::byte earlier[SpareName::kBytes];
  uint64_t place = 0;
  {
    PoolImage image(v.path());
    place = image.root().spare_names.off;
    std::memcpy(earlier, image.at(image.root().spare_names), sizeof earlier);
  }
  v.open();
  v.file("takes it");
  for (const char* name : {"second", "takes it"}) v->unlink(kRootIno, name);
  v.close();
  {
    PoolImage image(v.path());
    REQUIRE(std::memcmp(earlier, image.at(persistent_ptr<SpareName>{place}), sizeof(SpareName)) != 0);
    std::memcpy(image.at(persistent_ptr<SpareName>{place}), earlier, sizeof(SpareName));
  }
  v.open();
  CHECK_FALSE(v->check().empty());
  v.close();
}

}  // namespace
}  // namespace pmfs::meta::test
