// The exerciser itself: it finds nothing where nothing is wrong, finds what is planted, and shrinks it.
#include <catch2/catch.hpp>

#include <sstream>

#include "tests/exerciser/memory_target.h"
#include "tests/exerciser/model.h"
#include "tests/exerciser/runner.h"

using namespace pmfs::exerciser;

namespace {
std::vector<Op> random_list(uint64_t seed, size_t n) {
  std::mt19937_64 random(seed);
  std::vector<Op> ops;
  for (size_t i = 0; i < n; ++i) ops.push_back(random_op(random));
  return ops;
}
}  // namespace

TEST_CASE("exerciser: files that are right pass, and most operations mean something") {
  const auto t = memory_target();
  Counts counts;
  const auto failure = run(*t, random_list(1, 20000), &counts);
  INFO((failure ? failure->what : std::string()));
  CHECK_FALSE(failure);
  CHECK(counts.done > 3 * counts.left_out);
}

TEST_CASE("exerciser: each planted bug is found, shrunk to a few operations, and seen again in what is written") {
  for (const std::string& bug : planted_bugs()) {
    INFO(bug);
    const auto t = planted_target(memory_target(), bug);
    auto ops = random_list(2, 20000);
    const auto failure = run(*t, ops);
    REQUIRE(failure);
    ops.resize(std::min(ops.size(), failure->at + 1));
    const auto few = shrink(*t, ops, 60);
    CHECK(few.size() <= 6);
    std::stringstream text;
    for (const Op& op : few) text << to_string(op) << "\n";
    const auto read = parse_all(text);
    CHECK(read == few);
    CHECK(run(*t, read));
    CHECK_FALSE(run(*memory_target(), read));  // it is the bug, not the list
  }
}

TEST_CASE("exerciser: lines") {
  for (const Op& op : random_list(3, 1000)) CHECK(parse(to_string(op)) == op);
  for (const char* bad : {"", "reed file 0 offset 1 length 1 to 0 at 0 seed 1", "read file 2 offset 1 length 1 to 0 at 0 seed 1",
                          "read file 0 offset 1 length 1 to 0 at 0", "read file 0 offset 1 length 1 to 0 at 0 seed 1 x"}) {
    INFO(bad);
    CHECK_FALSE(parse(bad));
  }
  std::istringstream in("# a remark\n\nread file 0 offset 1 length 1 to 0 at 0 seed 1\nnonsense\n");
  CHECK_THROWS(parse_all(in));
}

TEST_CASE("exerciser: the same seed is the same list") { CHECK(random_list(7, 500) == random_list(7, 500)); }
