// Files in memory that are what they should be: the exerciser's own tests, and a ground to plant bugs in.
#pragma once

#include "tests/exerciser/target.h"

namespace pmfs::exerciser {
std::unique_ptr<Target> memory_target();
}
