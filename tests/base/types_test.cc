#include <catch2/catch.hpp>

#include <type_traits>
#include <unordered_set>

#include "pmfs/base/types.h"

using namespace pmfs;

static_assert(!std::is_convertible_v<Pgoff, Pfn>, "a page of a file is no block of the region");
static_assert(!std::is_convertible_v<uint64_t, Pgoff>, "and no bare number is either");

TEST_CASE("an index moves by counts and subtracts to a count") {
  Pgoff p(10);
  CHECK(p + 5 == Pgoff(15));
  CHECK(Pgoff(15) - p == 5);
  CHECK((p += 2) == Pgoff(12));
  CHECK(Pgoff(1024).aligned(kHugeBlocks));
  CHECK_FALSE(Pgoff(1000).aligned(kHugeBlocks));
  CHECK(Pgoff(3).bytes() == 3 * 4096);
  CHECK(pgoff_of(4095) == Pgoff(0));
  CHECK(pgoff_of(4096) == Pgoff(1));
}

TEST_CASE("bytes round up to blocks, up to the largest file") {
  CHECK(blocks_for(0) == 0);
  CHECK(blocks_for(1) == 1);
  CHECK(blocks_for(4096) == 1);
  CHECK(blocks_for(4097) == 2);
  CHECK(blocks_for(kMaxFileBytes) == kMaxPgoff + 1);
  CHECK(kEndOfFile.v == uint64_t{1} << 51);
}

TEST_CASE("ranges are half open") {
  PageRange r{Pgoff(10), Pgoff(20)};
  CHECK(r.count() == 10);
  CHECK(r.contains(Pgoff(10)));
  CHECK_FALSE(r.contains(Pgoff(20)));
  CHECK(r.overlaps({Pgoff(19), Pgoff(30)}));
  CHECK_FALSE(r.overlaps({Pgoff(20), Pgoff(30)}));
  CHECK_FALSE(r.overlaps({Pgoff(0), Pgoff(10)}));
  CHECK(PageRange{Pgoff(4), Pgoff(4)}.empty());
}

TEST_CASE("an extent maps file pages to region blocks") {
  FileExtent e{Pgoff(100), Pfn(7), 8, false};
  CHECK(e.pfn_at(Pgoff(103)) == Pfn(10));
  CHECK(e.end() == Pgoff(108));
  CHECK(e.blocks() == Extent{Pfn(7), 8});
  CHECK(e.blocks().contains(Pfn(14)));
  CHECK_FALSE(e.blocks().contains(Pfn(15)));
}

TEST_CASE("indexes hash") {
  std::unordered_set<Pgoff> s{Pgoff(1), Pgoff(2), Pgoff(1)};
  CHECK(s.size() == 2);
}
