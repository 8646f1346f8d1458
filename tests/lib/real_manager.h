// The real manager in the test's process, on a fresh volume.
#pragma once

#include <memory>
#include <string>

#include "pmfs/server/server.h"
#include "tests/support/temp_dir.h"

namespace pmfs::test {

struct RealManager {
  TempDir dir;
  std::unique_ptr<server::Server> server;
  RealManager() {
    format_volume(dir / "v", {16384, true, false});
    server::ServerOptions o;
    o.volume = dir / "v";
    o.trace = true;
    o.read_only_socket_mode = 0600;
    server = std::make_unique<server::Server>(o);
    server->start();
  }
  std::string path() const { return dir / "v"; }
};

}  // namespace pmfs::test
