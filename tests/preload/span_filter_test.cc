#include <catch2/catch.hpp>

#include "lib/preload/span_filter.h"

using pmfs::preload::SpanFilter;

namespace {
const void* at(uint64_t gib, uint64_t bytes = 0) { return reinterpret_cast<const void*>((gib << 30) + bytes); }
constexpr size_t kGiB = size_t{1} << 30;
}  // namespace

TEST_CASE("the filter knows what was added, by whole GiB, and nothing else") {
  static SpanFilter f;
  CHECK_FALSE(f.may_have(at(0), SIZE_MAX));
  f.add(at(5, 4096), 4096);
  CHECK(f.may_have(at(5), 1));
  CHECK(f.may_have(at(5, kGiB - 1), 1));
  CHECK_FALSE(f.may_have(at(4), kGiB));
  CHECK(f.may_have(at(4), kGiB + 1));
  CHECK_FALSE(f.may_have(at(6), kGiB));
  CHECK(f.may_have(at(6, 0), 0) == false);
  f.add(at(63, kGiB - 1), 2);  // over the end of a word
  CHECK(f.may_have(at(63), 1));
  CHECK(f.may_have(at(64), 1));
  CHECK_FALSE(f.may_have(at(65), 1));
}

TEST_CASE("ranges at and beyond the end of the address space") {
  static SpanFilter f;
  f.add(at((1 << 17) - 1), 4096);
  CHECK(f.may_have(at((1 << 17) - 1), kGiB));
  CHECK_FALSE(f.may_have(at(1 << 17), kGiB));
  f.add(at(1 << 17), SIZE_MAX);
  CHECK_FALSE(f.may_have(at(1 << 17), kGiB));
  CHECK(f.may_have(at((1 << 17) - 1), SIZE_MAX));  // its end wraps around
}
