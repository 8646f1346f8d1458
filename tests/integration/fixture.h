// A manager in the test's own process (so that pause points and internals are at hand) on a fresh volume, served
// to real client processes.
#pragma once

#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "pmfs/base/error.h"
#include "pmfs/fault/probe.h"
#include "pmfs/server/server.h"
#include "tests/support/client_process.h"
#include "tests/support/pte.h"
#include "tests/support/temp_dir.h"
#include "tests/support/test_volume.h"

namespace pmfs::test {

// Whether a volume here can be served gated; says why not.
inline bool can_be_gated() {
  if (volumes_on_dax()) {
    WARN("skipped what is gated: the region is DAX");
    return false;
  }
  try {
    fault::probe_gated(UniqueFd(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC)).get());
  } catch (const Error& e) {
    WARN("skipped what is gated: " << e.what());
    return false;
  }
  return true;
}

class Manager {
 public:
  explicit Manager(server::ServerOptions o = {}, uint64_t blocks = 16384, uint64_t unit_blocks = 0) : options_(std::move(o)) {
    options_.volume = dir_.path() / "vol";
    options_.trace = true;
    if (std::getenv("PMFS_TEST_ACKED") != nullptr) options_.force_acked = true;
    format_test_volume(options_.volume, blocks, unit_blocks);
    start();
  }
  void start() {
    server_ = std::make_unique<server::Server>(options_);
    server_->start();
  }
  void stop() { server_.reset(); }
  std::unique_ptr<ClientProcess> client() {
    auto c = std::make_unique<ClientProcess>();
    c->ok("connect " + options_.volume.string());
    return c;
  }
  server::Server& server() { return *server_; }
  MountedVolume& volume() { return server_->volume(); }
  std::string path() const { return options_.volume.string(); }
  server::ServerOptions& options() { return options_; }
  // P1: every PTE a client has is on a block that belongs to somebody. Blocks are freed when the operation has been answered: a
  // look before that would find them still somebody's.
  size_t p1_violations(const ClientProcess& c) {
    for (int i = 0; i < 4000 && volume().gated() && volume().space().blocks_deferred != 0; ++i) ::usleep(1000);
    size_t bad = 0;
    for (const PresentPte& p : present_ptes(c.pid(), path() + "/data"))
      if (volume().owners()->get(p.pfn).ino == Ino{}) ++bad;
    return bad;
  }
  // The inode while some client has it open.
  std::shared_ptr<Inode> inode(const char* file) { return volume().peek(volume().lookup(file)); }
  // Threads asleep at an entry or in the exclusion scheme of a file.
  unsigned waiters(const char* file) {
    auto i = inode(file);
    return i ? i->entries.waiters() + i->exclusion->waiters() : 0;
  }
  // Until no session is left and what they held is given back.
  bool all_gone() {
    for (int i = 0; i < 24000; ++i) {  // a bound on a hang: what was asked for last may be long, and others compute
      if (server().sessions().empty() && volume().space().blocks_reserved == 0) return true;
      ::usleep(5000);
    }
    return false;
  }
  // Every structure of the metadata agrees with every other, and nothing is held when nobody is there.
  void check_clean() {
    auto findings = volume().store().check();
    for (auto& f : findings) UNSCOPED_INFO(f);
    CHECK(findings.empty());
  }

 private:
  TempDir dir_{volumes_parent()};
  server::ServerOptions options_;
  std::unique_ptr<server::Server> server_;
};

// Enough pagers that one held at a pause point leaves others.
inline server::ServerOptions with_pagers(unsigned n = 4) {
  server::ServerOptions o;
  o.pagers = n;
  return o;
}

// Sound or not.
inline server::ServerOptions with_scheme(std::string_view scheme) {
  server::ServerOptions o;
  o.exclusion = std::string(scheme);
  o.allow_broken = true;
  o.pagers = 4;
  return o;
}

}  // namespace pmfs::test
