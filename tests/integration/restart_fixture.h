// A volume whose manager is another process, to be killed and started again, and clients that outlive it.
#pragma once

#include <csignal>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "pmfs/fs/volume.h"
#include "tests/support/client_process.h"
#include "tests/support/manager_process.h"
#include "tests/support/pte.h"
#include "tests/support/raw_client.h"
#include "tests/support/temp_dir.h"
#include "tests/support/test_volume.h"

namespace pmfs::test {

class Restart {
 public:
  using Args = std::vector<std::string>;
  explicit Restart(const Args& args = {}, uint64_t blocks = 16384) : path_((dir_.path() / "vol").string()) {
    format_test_volume(path_, blocks);
    start(args);
  }
  void start(const Args& args = {}) {
    manager_ = std::make_unique<ManagerProcess>(path_, args);
    manager_->wait_ready();
  }
  // Without waiting for it: a pause point before it is ready.
  void launch(const Args& args) { manager_ = std::make_unique<ManagerProcess>(path_, args); }
  void kill() { manager_.reset(); }
  void restart(const Args& args = {}) {
    kill();
    start(args);
  }
  ManagerProcess& manager() { return *manager_; }
  void adopt(std::unique_ptr<ManagerProcess> m) { manager_ = std::move(m); }
  const std::string& path() const { return path_; }
  std::unique_ptr<ClientProcess> client() {
    auto c = std::make_unique<ClientProcess>();
    c->ok("connect " + path_);
    return c;
  }
  // P1 as the kernel and the manager that runs now see it: PTEs on blocks that are nobody's. The client must not change
  // anything meanwhile.
  size_t bad_ptes(const ClientProcess& c) {
    RawClient raw(path_);
    size_t bad = 0;
    for (const PresentPte& p : present_ptes(c.pid(), path_ + "/data")) {
      proto::Request q{};
      q.op = static_cast<uint16_t>(proto::Op::kBlocks);
      q.version = proto::kVersion;
      q.a0 = 1;
      std::memcpy(raw.ring->bounce(0), &p.pfn.v, sizeof p.pfn.v);
      REQUIRE(raw.ask(0, q).err == 0);
      proto::WireBlock b{};
      std::memcpy(&b, raw.ring->bounce(0), sizeof b);
      if (b.state == 0 || b.state == 1 || b.state == 3) ++bad;
    }
    return bad;
  }
  size_t ptes(const ClientProcess& c) { return present_ptes(c.pid(), path_ + "/data").size(); }
  proto::WireStatfs statfs() {
    RawClient raw(path_);
    REQUIRE(raw.ask(proto::Op::kStatfs).err == 0);
    proto::WireStatfs w{};
    std::memcpy(&w, raw.ring->bounce(0), sizeof w);
    return w;
  }
  // Kills the manager; no client may be left. Every structure agrees with every other, and nothing is held or lost.
  void check_clean() {
    kill();
    MountedVolume v(path_, {});
    for (auto& f : v.store().check()) {
      UNSCOPED_INFO(f);
      CHECK(f.empty());
    }
    CHECK(v.store().orphans().empty());
    const meta::Space s = v.space();
    CHECK(s.blocks_reserved == 0);
    CHECK(s.blocks_deferred == 0);
  }

 private:
  TempDir dir_{volumes_parent()};
  const std::string path_;
  std::unique_ptr<ManagerProcess> manager_;
};

}  // namespace pmfs::test
