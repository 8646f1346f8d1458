// Runs lists of operations on a target beside the model, compares, and shrinks a list that fails.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/exerciser/op.h"
#include "tests/exerciser/target.h"

namespace pmfs::exerciser {

struct Failure {
  size_t at = 0;     // the operation it showed at
  std::string what;  // a sentence
};

struct Counts {
  uint64_t done = 0, left_out = 0;  // left out: no sense where it came, or the target can't
};

// An operation's own result, and the size after it, are compared each time; all bytes every `kCompareEvery` operations
// and after the last one.
inline constexpr size_t kCompareEvery = 500;

// `next` gives operation number i; null: the end. The target is reset first.
std::optional<Failure> run(Target& t, const std::function<const Op*(size_t i)>& next, Counts* counts = nullptr);
std::optional<Failure> run(Target& t, const std::vector<Op>& ops, Counts* counts = nullptr);

// A list, part of `ops`, that fails too and gets shorter by leaving out no one operation, or as short as `seconds` of
// trying made it. `ops` fails. Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (ddmin).
std::vector<Op> shrink(Target& t, std::vector<Op> ops, double seconds);

}  // namespace pmfs::exerciser
