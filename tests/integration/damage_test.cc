// Metadata that is damaged under a file that is mapped.
#include <algorithm>

#include "pmfs/fs/inode_ref.h"
#include "tests/integration/fixture.h"
#include "tests/meta/pool_image.h"

using namespace pmfs;
using namespace pmfs::test;

namespace {

constexpr uint64_t kPages = 2600;  // every other one is written: more extents than are looked at when the file is mapped

uint64_t last_byte_of_page(uint64_t page) { return (page + 1) * kBlockSize - 1; }

// The last index node of the extent map of `ino`.
void damage_last_leaf(const std::string& volume, Ino ino) {
  using namespace pmfs::meta;
  meta::test::PoolImage image(volume + "/meta");
  Node* n = image.at(image.inode(ino).map.root);
  REQUIRE(n->level > 0);
  while (n->level > 0) n = image.at(n->branches[n->count - 1].child);
  n->records[n->count - 1].a ^= 1;
}

}  // namespace

TEST_CASE("a load that meets a damaged extent map is SIGBUS; the manager and other files live", "[robust]") {
  Manager m(with_pagers());
  Ino ino{};
  {
    std::byte page[kBlockSize];
    std::fill(std::begin(page), std::end(page), std::byte{7});
    InodeRef f(m.volume(), m.volume().open("/f", O_RDWR | O_CREAT, 0644, {0, 0}));
    InodeRef g(m.volume(), m.volume().open("/g", O_RDWR | O_CREAT, 0644, {0, 0}));
    for (uint64_t p = 0; p < kPages; p += 2) m.volume().write(*f, page, p * kBlockSize);
    m.volume().write(*g, page, 0);
    ino = f->ino;
  }
  m.stop();
  damage_last_leaf(m.path(), ino);
  m.options().trace = false;  // with it all of the map is read, and refused, at open
  m.start();
  auto c = m.client();
  c->ok("open f /f rw");
  c->ok("map f m 0 " + std::to_string(kPages * kBlockSize));
  CHECK(c->cmd("load m 4095") == "7");
  CHECK(c->cmd("load m " + std::to_string(last_byte_of_page(kPages - 2))) == "sigbus");
  CHECK(c->cmd("store m " + std::to_string(last_byte_of_page(kPages - 2)) + " 1") == "sigbus");
  c->ok("open g /g rw");
  c->ok("map g n 0 4096");
  CHECK(c->cmd("load n 0") == "7");
  c->ok("store n 0 9");
  CHECK(c->cmd("load m 4095") == "7");
  const std::string read = c->cmd("read f " + std::to_string((kPages - 2) * kBlockSize) + " 4096");
  CHECK(read.rfind("err " + std::to_string(EIO) + " ", 0) == 0);
}
