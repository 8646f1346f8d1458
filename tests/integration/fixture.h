// A manager in the test's own process (so that pause points and internals are at hand) on a fresh volume, served
// to real client processes.
#pragma once

#include <csignal>
#include <memory>
#include <string>

#include <unistd.h>

#include <catch2/catch.hpp>

#include "pmfs/server/server.h"
#include "tests/support/client_process.h"
#include "tests/support/temp_dir.h"

namespace pmfs::test {

class Manager {
 public:
  explicit Manager(server::ServerOptions o = {}, uint64_t blocks = 16384) : options_(std::move(o)) {
    options_.volume = dir_.path() / "vol";
    options_.trace = true;
    format_volume(options_.volume, {blocks, true, false});
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
  // Every structure of the metadata agrees with every other, and nothing is held when nobody is there.
  void check_clean() {
    auto findings = volume().store().check();
    for (auto& f : findings) UNSCOPED_INFO(f);
    CHECK(findings.empty());
  }

 private:
  TempDir dir_;
  server::ServerOptions options_;
  std::unique_ptr<server::Server> server_;
};

inline server::ServerOptions broken(const char* scheme) {
  server::ServerOptions o;
  o.exclusion = scheme;
  o.allow_broken = true;
  return o;
}

}  // namespace pmfs::test
