// A manager in the test's own process on a fresh volume.
#pragma once

#include <catch2/catch.hpp>

#include "pmfs/base/error.h"
#include "pmfs/server/server.h"
#include "tests/support/raw_client.h"
#include "tests/support/temp_dir.h"

namespace pmfs::test {

struct ServerFixture {
  TempDir dir;
  std::string path = dir.path() / "vol";
  std::unique_ptr<server::Server> server;

  explicit ServerFixture(unsigned socket_mode = 0600) {
    format_volume(path, {4096, true, false});
    server::ServerOptions o;
    o.volume = path;
    o.workers = 2;
    o.socket_mode = socket_mode;
    server = std::make_unique<server::Server>(o);
    server->start();
  }
  // Sessions end on the manager's own threads.
  bool sessions_become(size_t n) {
    for (int i = 0; i < 4000; ++i) {
      if (server->sessions().size() == n) return true;
      ::usleep(5000);
    }
    return false;
  }
};

}  // namespace pmfs::test
