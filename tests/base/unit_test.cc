#include "pmfs/base/unit.h"

#include <catch2/catch.hpp>

using namespace pmfs;

TEST_CASE("a unit of one block changes nothing") {
  constexpr Unit u;
  CHECK(u.single());
  CHECK(u.order() == 0);
  CHECK(u.down(Pgoff(7)) == Pgoff(7));
  CHECK(u.up(Pgoff(7)) == Pgoff(7));
  CHECK(u.touched(5, 4097) == PageRange{Pgoff(0), Pgoff(2)});
  CHECK(u.inside(5, 3 * 4096 + 1) == PageRange{Pgoff(1), Pgoff(3)});
  CHECK(u.whole(Extent{Pfn(3), 5}));
}

TEST_CASE("ranges are rounded to units, outwards and inwards") {
  constexpr Unit u(kHugeBlocks);
  constexpr uint64_t kBytes = kHugeBlocks * kBlockSize;
  CHECK(u.bytes() == kBytes);
  CHECK(u.order() == kHugeOrder);
  CHECK(u.around({Pgoff(5), Pgoff(513)}) == PageRange{Pgoff(0), Pgoff(1024)});
  CHECK(u.touched(1, kBytes) == PageRange{Pgoff(0), Pgoff(512)});
  CHECK(u.touched(kBytes - 1, kBytes + 1) == PageRange{Pgoff(0), Pgoff(1024)});
  CHECK(u.inside(0, 2 * kBytes) == PageRange{Pgoff(0), Pgoff(1024)});
  CHECK(u.inside(kBytes - 1, kBytes + 1).empty());
  CHECK(u.inside(1, 2).end < u.inside(1, 2).first);  // in one unit, with both its ends elsewhere
  CHECK(u.up(kEndOfFile) == kEndOfFile);
  CHECK(u.whole(FileExtent{Pgoff(512), Pfn(1024), 512}));
  CHECK_FALSE(u.whole(FileExtent{Pgoff(512), Pfn(1025), 512}));
  CHECK_FALSE(u.whole(Extent{Pfn(512), 1}));
  CHECK_FALSE(Unit::possible(8));
}
