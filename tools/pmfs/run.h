// pmfs run: a program whose mappings of files on a mount are direct.
#pragma once

#include "tools/pmfs/target.h"

namespace pmfs::cli {

void add_run(CLI::App& app, Context& c);

}  // namespace pmfs::cli
