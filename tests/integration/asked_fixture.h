// A manager some of whose clients must be asked to let go of blocks, and what tests want to know of those.
#pragma once

#include <string>
#include <utility>

#include "pmfs/base/pause.h"
#include "tests/integration/fixture.h"

namespace pmfs::test {

struct Asked {
  Manager m;
  explicit Asked(server::ServerOptions o, uint64_t unit_blocks = 0) : m(std::move(o), 16384, unit_blocks) {}
  // Of a page of /f that has one.
  Pfn block_of(uint64_t offset) { return m.volume().store().lookup_extent(m.inode("/f")->ino, pgoff_of(offset))->pfn_at(pgoff_of(offset)); }
  // Of those in the root directory that somebody has open.
  bool in_a_file(Pfn block) {
    for (const auto& entry : m.volume().list("/", 0, 100)) {
      const auto i = m.volume().peek(entry.ino);
      if (!i) continue;
      for (const FileExtent& e : m.volume().store().extents(i->ino, {Pgoff(0), kEndOfFile}, SIZE_MAX))
        if (e.blocks().contains(block)) return true;
    }
    return false;
  }
  bool pending_for_good(ClientProcess& c, const std::string& id) {
    for (int i = 0; i < 50; ++i) {
      if (c.cmd("poll " + id) == "done") return false;
      ::usleep(2000);
    }
    return true;
  }
  // PTEs on a block that is nobody's and that nobody was asked to let go of. The trace believes what a fault believed, so the
  // extent map is asked.
  size_t violations(const ClientProcess& c) {
    size_t bad = 0;
    for (const PresentPte& p : present_ptes(c.pid(), m.path() + "/data")) {
      const auto s = m.volume().store().block_state(p.pfn);
      if (s == meta::BlockState::kFree || s == meta::BlockState::kReserved) ++bad;
    }
    return bad;
  }
  // No client has a command that it has not executed.
  bool all_executed() {
    for (int i = 0; i < 4000; ++i) {
      uint64_t n = 0;
      for (auto& s : m.server().sessions()) n += s->agent_queue();
      if (n == 0) return true;
      ::usleep(1000);
    }
    return false;
  }
  // Everybody has let go.
  bool idle() {
    for (int i = 0; i < 4000 && m.volume().quarantine().live() != 0; ++i) ::usleep(5000);
    return m.volume().quarantine().live() == 0;
  }
};

#ifdef PMFS_PAUSE_POINTS

// P has clients a and b; a has mapped what b's punch takes. Between the revoke and the free A faults the old extent in again: it waits,
// or has a PTE on a free block.
template <class P>
void fault_before_free(P& p, bool sound, const std::string& punch, const std::string& load) {
  pause::Gate gate("invalidate:before_free");
  p.b->ok("async 1 " + punch);
  REQUIRE(gate.wait_arrived());
  CHECK(p.all_executed());
  p.a->ok("async 1 " + load);
  const bool waited = p.pending_for_good(*p.a, "1");
  gate.release();
  CHECK(p.b->cmd("wait 1") == "ok");
  const std::string seen = p.a->cmd("wait 1");
  CHECK(waited == sound);
  if (waited) CHECK(seen == "0");
  CHECK((p.violations(*p.a) == 0) == waited);
}

#endif

}  // namespace pmfs::test
