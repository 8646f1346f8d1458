// Which images of a step are looked at: for each line that is not durable, one of its versions or the durable one.
// All combinations where they are few; otherwise the telling ones (none, all, each line alone, each line missing)
// and a sample of the others. Lines that are `old` are kept or lost together: they were each on their own earlier.
#pragma once

#include <cstdint>
#include <vector>

#include "tools/crash/recorder.h"

namespace pmfs::crash {

// Per pending line of the step: 0 is its durable content, n its n-th version.
using Choice = std::vector<uint8_t>;

// At most `most` choices (4 or more), all different; the same for the same arguments. *complete: they are all there are.
std::vector<Choice> choices(const Step& s, size_t most, uint64_t seed, bool* complete);

}  // namespace pmfs::crash
