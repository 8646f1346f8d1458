// Fuzzes the execution of requests, hand-overs, faults and agent's answers: see world.h and peer.h.
//
//   PMFS_FUZZ_DIR: where the volume is made, on a tmpfs. PMFS_FUZZ_SABOTAGE=read-unchecked: a check left out, to be found.
#include <cstring>

#include "tests/fuzz/peer.h"

namespace {

using namespace pmfs;

fuzz::World& world() {
  static fuzz::World* w = [] {
    const char* dir = std::getenv("PMFS_FUZZ_DIR");
    if (dir == nullptr) {
      std::fprintf(stderr, "PMFS_FUZZ_DIR is not set: name a directory on a tmpfs\n");
      std::exit(2);
    }
    const char* s = std::getenv("PMFS_FUZZ_SABOTAGE");
    const auto sabotage = s != nullptr && std::strcmp(s, "read-unchecked") == 0 ? server::Sabotage::kReadUnchecked : server::Sabotage::kNone;
    return new fuzz::World(std::string(dir) + "/vol", sabotage);
  }();
  return *w;
}

}  // namespace

// What the pool's library has of its own stays until the end: the world is never taken down.
extern "C" const char* __lsan_default_suppressions() { return "leak:libpmemobj\n"; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  constexpr size_t kPeers = 3;
  fuzz::World& w = world();
  {
    fuzz::Input in(data, bytes);
    std::vector<std::unique_ptr<fuzz::Peer>> peers;
    size_t now = 0;
    auto join = [&](uint8_t how) {
      peers.push_back(std::make_unique<fuzz::Peer>(w, (how & 1) != 0));
      const bool others = peers.size() > 1;
      if (how & 2) return;  // says what it likes from the first message on
      if ((how & 12) == 4 && others) return peers.back()->greet(0, peers.front()->ring_fd());
      if ((how & 12) == 8 && others) return peers.back()->greet(peers.front()->token(), -1);
      peers.back()->greet(0, -1);
    };
    join(in.byte());
    while (!in.done()) {
      const uint8_t what = in.byte();
      if (what < 240) {
        peers[now]->step(in);
      } else if (what < 248 && peers.size() < kPeers) {
        join(in.byte());
        now = peers.size() - 1;
      } else if (what < 254) {
        now = what % peers.size();
      } else if (peers.size() > 1) {
        peers.erase(peers.begin() + static_cast<std::ptrdiff_t>(now));
        now = 0;
      }
    }
  }
  w.look();
  return 0;
}
