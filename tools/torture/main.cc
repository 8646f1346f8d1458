// pmfs-torture: see options.cc for what it does, control_block.h for how it decides.
#include <signal.h>

#include <cstdlib>
#include <cstring>
#include <exception>

#include <fmt/format.h>

#include "pmfs/error.hpp"
#include "tools/torture/orchestrator.h"
#include "tools/torture/worker.h"

namespace {

void interrupted(int) { torture::g_interrupted = true; }

}  // namespace

int main(int argc, char** argv) {
  using namespace torture;
  if (argc == 5 && std::strcmp(argv[1], "--worker") == 0) {  // how the orchestrator starts a client
    signal(SIGINT, SIG_IGN);
    return worker_main(std::atoi(argv[2]), static_cast<unsigned>(std::atoi(argv[3])), std::strtoull(argv[4], nullptr, 10));
  }
  Options options;
  int leave = parse_options(argc, argv, &options);
  if (leave >= 0) return leave;
  for (int s : {SIGINT, SIGTERM, SIGHUP}) signal(s, interrupted);
  signal(SIGPIPE, SIG_IGN);
  try {
    return Orchestrator(options).run();
  } catch (const std::exception& e) {
    fmt::print(stderr, "pmfs-torture: could not run: {}\n", e.what());
    return 3;
  }
}
