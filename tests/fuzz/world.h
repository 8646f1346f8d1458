// A manager without its threads, for a fuzzer: a real volume on tmpfs, and sessions that are told what to do one step at a time, in
// one thread. What somebody honest has in the volume is looked at after every input.
#pragma once

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <vector>

#include "pmfs/server/dispatch.h"
#include "pmfs/server/session.h"

namespace pmfs::fuzz {

// A finding: says what, and ends in a way that the fuzzer keeps the input.
[[noreturn]] void finding(const char* what);

class World {
 public:
  // In `dir`, which must not exist. Takes what Dispatcher::Host has to see a bug found.
  World(const std::string& dir, server::Sabotage sabotage);

  MountedVolume& volume() { return volume_; }
  server::Dispatcher& dispatcher() { return dispatcher_; }
  fault::FaultHandler& faults() { return faults_; }
  fault::Pagers& pagers() { return pagers_; }
  server::FdShares& shares() { return shares_; }
  uint64_t next_session() { return ++sessions_; }
  uint64_t honest_ino() const { return honest_ino_; }
  std::shared_ptr<server::ForkImage> take_fork(uint64_t token);

  // After an input, all sessions being gone: makes the volume as it was, and looks at it; thoroughly now and then.
  void look();

 private:
  void clear(const std::string& dir);
  void clear_root();
  size_t open_fds() const;

  server::FdShares shares_{20000};
  MountedVolume volume_;
  fault::FaultHandler faults_;
  fault::Pagers pagers_;
  server::Dispatcher::Host host_;
  server::Dispatcher dispatcher_;
  std::map<uint64_t, std::shared_ptr<server::ForkImage>> forks_;
  uint64_t tokens_ = 0, sessions_ = 0, inputs_ = 0, honest_ino_ = 0;
  InodeRef honest_;
  std::vector<std::byte> honest_data_;
  size_t fds_ = 0;
};

}  // namespace pmfs::fuzz
