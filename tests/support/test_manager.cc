// A manager in a process of its own, to be killed: it says "ready" when clients can connect, and "arrived" when a thread of
// it has reached the pause point that it was told to stop at.
//
//   test_manager VOLUME [--pause POINT [SKIP]] [--grace SECONDS] [--no-zap] [--takeover] [--socket-mode OCTAL]
//                [--read-only-socket-mode OCTAL]
//                [--sabotage-reads]
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/server/hand_over.h"
#include "pmfs/server/server.h"

namespace {

void say(const char* line) {
  const std::string text = std::string(line) + "\n";
  if (write(1, text.data(), text.size()) != static_cast<ssize_t>(text.size())) _exit(4);
}

}  // namespace

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (argc < 2) return 2;
  pmfs::server::ServerOptions o;
  o.volume = argv[1];
  o.trace = true;
  o.pagers = 4;
  o.force_acked = std::getenv("PMFS_TEST_ACKED") != nullptr;
  const char* point = nullptr;
  unsigned skip = 0;
  bool takeover = false;
  for (int i = 2; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--no-zap") {
      o.zap_at_mount = false;
    } else if (arg == "--fence") {
      o.fence_seconds = std::atof(argv[++i]);
    } else if (arg == "--acked") {
      o.force_acked = true;
    } else if (arg == "--takeover") {
      takeover = true;
    } else if (arg == "--sabotage-reads") {
      o.sabotage = pmfs::server::Sabotage::kReadTwice;
    } else if (arg == "--socket-mode" && i + 1 < argc) {
      o.socket_mode = static_cast<unsigned>(std::strtoul(argv[++i], nullptr, 8));
    } else if (arg == "--read-only-socket-mode" && i + 1 < argc) {
      o.read_only_socket_mode = static_cast<unsigned>(std::strtoul(argv[++i], nullptr, 8));
    } else if (arg == "--grace" && i + 1 < argc) {
      o.grace_seconds = std::atof(argv[++i]);
    } else if (arg == "--pause" && i + 1 < argc) {
      point = argv[++i];
      if (i + 1 < argc && argv[i + 1][0] != '-') skip = static_cast<unsigned>(std::atoi(argv[++i]));
    } else {
      return 2;
    }
  }
#ifdef PMFS_PAUSE_POINTS
  std::unique_ptr<pmfs::pause::Gate> gate;
  if (point != nullptr) {
    gate = std::make_unique<pmfs::pause::Gate>(point, skip);
    std::thread([&gate] {
      while (!gate->wait_arrived(std::chrono::hours(1))) {
      }
      say("arrived");
    }).detach();
  }
#else
  if (point != nullptr || skip != 0) return 3;
#endif
  try {
    if (takeover) pmfs::server::take_over(o.volume, 20);
    pmfs::server::Server s(o);
    s.start();
    say("ready");
    s.wait();
    if (s.handed_over()) _exit(0);
  } catch (const pmfs::Error& e) {
    dprintf(2, "test_manager: %s\n", e.message().c_str());
    return 1;
  }
  return 0;
}
