// What the main() of a bench does around its work.
#pragma once

#include <cstdio>
#include <exception>

namespace pmfs::bench {

// The exit code of `run`; 1, with a line on standard error, if it throws.
template <class Run>
int program(const char* name, Run run, int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", name, e.what());
    return 1;
  }
}

}  // namespace pmfs::bench
