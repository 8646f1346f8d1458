// P5: a manager that is killed and started again picks up its living clients.
#include "tests/integration/restart_fixture.h"

#include <cerrno>
#include <functional>

#include "pmfs/server/hand_over.h"
#include "tests/support/error_of.h"

using namespace pmfs;
using namespace pmfs::test;

TEST_CASE("a client's stores and its mapping outlive the manager", "[restart]") {
  Restart r;
  auto c = r.client();
  c->ok("open f /f rwc");
  c->ok("truncate f 1048576");
  c->ok("map f m 0 1048576");
  c->ok("fill m 0 65536 7");
  r.kill();
  c->ok("store m 5 42");                 // its PTEs are there
  c->ok("async 1 store m 524288 9");     // this one has to wait
  CHECK(c->cmd("poll 1") == "pending");
  r.start();
  CHECK(c->cmd("wait 1") == "ok");
  CHECK(c->cmd("load m 5") == "42");
  c->ok("check m 6 65530 7");
  CHECK(c->cmd("load m 524288") == "9");
  CHECK(c->cmd("read f 6 65530").find("uniform 7") != std::string::npos);
  auto other = r.client();
  other->ok("open f /f rw");
  CHECK(other->cmd("read f 5 1").find("uniform 42") != std::string::npos);
  CHECK(other->cmd("read f 524288 1").find("uniform 9") != std::string::npos);
  other->ok("truncate f 4096");
  CHECK(c->cmd("load m 8192") == "sigbus");
  other->ok("truncate f 1048576");
  CHECK(c->cmd("load m 8192") == "0");
  CHECK(c->cmd("load m 5") == "42");
  c->kill(SIGKILL);
  other->kill(SIGKILL);
  r.check_clean();
}

namespace {

// Two clients that map 1 MiB of a file, in which every byte is 17.
struct Pair {
  Restart r;
  std::unique_ptr<ClientProcess> a, b;
  explicit Pair(const Restart::Args& args = {}, bool written = true) : r(args), a(r.client()), b(r.client()) {
    for (auto* c : {a.get(), b.get()}) {
      c->ok("open f /f rwc");
      c->ok("truncate f 1048576");
      c->ok("map f m 0 1048576");
    }
    if (written) CHECK(b->cmd("write f 0 1048576 17") == "1048576");
  }
  void leave() {
    a->kill(SIGKILL);
    b->kill(SIGKILL);
    r.check_clean();
  }
};

std::string number_of(const std::string& reply) { return reply.substr(0, reply.find(' ', 4)); }  // "err N"

bool soon(const std::function<bool()>& f) {
  for (int i = 0; i < 4000; ++i) {
    if (f()) return true;
    ::usleep(5000);
  }
  return false;
}

}  // namespace

TEST_CASE("several managers in a row; files, mappings of closed files, forked children go on", "[restart]") {
  Pair p;
  p.a->ok("open g /g rwc");
  p.a->ok("truncate g 65536");
  p.a->ok("map g n 4096 32768");
  p.a->ok("close g");
  p.a->ok("store n 0 3");
  auto child = p.a->fork();
  for (int round = 1; round <= 4; ++round) {
    p.r.restart();
    const std::string v = std::to_string(round);
    p.a->ok("store m 0 " + v);
    CHECK(child->cmd("load m 0") == v);
    child->ok("store m 500000 " + v);
    CHECK(p.b->cmd("load m 500000") == v);
    CHECK(p.a->cmd("load n 0") == "3");
    child->ok("store n 8192 " + v);
    CHECK(p.a->cmd("load n 8192") == v);
    p.b->ok("punch f 8192 4096");
    CHECK(p.a->cmd("load m 8192") == "0");
    p.b->ok("store m 8192 17");
    CHECK(p.a->cmd("append f 10 9") == std::to_string(1048576 + 10 * (round - 1)));
    p.a->ok("open h /h" + v + " rwcx");  // a handle of this manager
    CHECK(p.a->cmd("write h 0 4096 " + v) == "4096");
    p.a->ok("map h q 0 4096");
    CHECK(p.a->cmd("load q 77") == v);
    p.a->ok("unmap q");
    p.a->ok("close h");
  }
  child->ok("unmap m");
  child->ok("map f m 0 4096");
  CHECK(child->cmd("load m 0") == "4");
  child->kill(SIGKILL);
  p.leave();
}

TEST_CASE("unlinked files that are open survive the manager; those of dead clients don't", "[restart]") {
  Pair p;
  p.b->ok("open g /g rwc");
  CHECK(p.b->cmd("write g 0 65536 5") == "65536");
  p.a->ok("store m 0 1");
  p.a->ok("unlink /f");
  p.a->ok("unlink /g");
  p.b->kill(SIGKILL);
  p.r.restart();
  CHECK(p.a->cmd("load m 0") == "1");
  p.a->ok("check m 1 65535 17");
  CHECK(p.a->cmd("read f 4096 4096").find("uniform 17") != std::string::npos);
  CHECK(soon([&] { return p.r.statfs().blocks_used == 256; }));  // b's went when all had come back
  p.a->ok("unmap m");
  p.a->ok("close f");
  CHECK(soon([&] { return p.r.statfs().blocks_used == 0; }));
  p.leave();
}

TEST_CASE("an unlinked file that is only mapped goes with its last mapping, also at another manager", "[restart]") {
  Pair p;
  p.b->kill(SIGKILL);
  p.a->ok("close f");
  p.a->ok("unlink /f");
  p.r.restart();
  p.a->ok("check m 0 1048576 17");
  p.a->ok("unmap m");
  CHECK(soon([&] { return p.r.statfs().blocks_used == 0; }));
  p.leave();
}

TEST_CASE("a touch behind the end waits while there is no manager: the file may have grown when the next one answers", "[restart]") {
  Pair p;
  p.a->ok("map f n 0 4194304");
  CHECK(p.a->cmd("load n 2097152") == "sigbus");
  for (const bool grows : {false, true}) {
    p.a->stop();
    p.r.restart();
    if (grows) p.b->ok("truncate f 4194304");
    p.a->kill(SIGCONT);
    CHECK(soon([&] { return p.a->cmd("load n 2097152") == (grows ? "0" : "sigbus"); }));
  }
  p.r.kill();
  p.a->ok("async 1 load n 3145728");
  p.a->ok("async 2 load n 4194303");
  CHECK(p.a->cmd("poll 1") == "pending");
  p.r.start();
  CHECK(p.a->cmd("wait 1") == "0");
  CHECK(p.a->cmd("wait 2") == "0");
  p.leave();
}

TEST_CASE("a file unlinked in the grace period is there for a client that comes late", "[restart]") {
  Pair p;
  p.a->stop();
  p.b->ok("unmap m");
  p.b->ok("close f");
  p.r.restart();
  p.b->ok("unlink /f");
  CHECK(p.r.statfs().blocks_used == 256);
  p.a->kill(SIGCONT);
  p.a->ok("check m 0 1048576 17");
  CHECK(p.a->cmd("read f 0 4096").find("uniform 17") != std::string::npos);
  p.leave();
}

TEST_CASE("who comes after the grace period finds its unlinked file gone: SIGBUS and ESTALE, never zeros", "[restart][gated]") {
  Pair p;
  CHECK(p.a->cmd("load m 0") == "17");
  p.a->ok("open g /g rwc");
  p.b->ok("unlink /f");
  p.b->ok("unmap m");
  p.b->ok("close f");
  p.a->ok("async 1 load m 900000");
  CHECK(p.a->cmd("wait 1") == "17");
  p.a->stop();
  p.r.restart({"--grace", "0.2"});
  CHECK(soon([&] { return p.r.statfs().blocks_used == 0; }));
  CHECK(p.r.bad_ptes(*p.a) == 0);
  p.a->kill(SIGCONT);
  CHECK(p.a->cmd("load m 0") == "sigbus");
  CHECK(number_of(p.a->cmd("read f 0 4096")) == "err 116");
  p.a->ok("unmap m");
  p.a->ok("close f");
  CHECK(p.a->cmd("write g 0 10 1") == "10");
  p.leave();
}

TEST_CASE("no PTE on a volatile zero block outlives the mount, also of a stopped client", "[restart][gated]") {
  const bool zap = GENERATE(true, false);
  CAPTURE(zap);
  Pair p({}, false);
  p.a->ok("check m 0 1048576 0");  // zero blocks, nobody's on the media
  p.a->ok("store m 4096 1");
  CHECK(p.r.ptes(*p.a) > 100);
  p.a->stop();
  if (zap)
    p.r.restart();
  else
    p.r.restart({"--no-zap"});
  if (zap)
    CHECK(p.r.bad_ptes(*p.a) == 0);
  else
    CHECK(p.r.bad_ptes(*p.a) > 100);  // the mistake is seen
  p.a->kill(SIGCONT);
  CHECK(p.a->cmd("load m 4096") == "1");
  p.a->ok("check m 8192 65536 0");
  p.a->kill(SIGKILL);
  p.b->kill(SIGKILL);
  p.r.check_clean();
}

TEST_CASE("blocks are not moved under a client that has not come back", "[restart][gated]") {
  Pair p;
  p.a->ok("store m 8192 1");
  p.a->stop();
  p.r.restart();
  CHECK(number_of(p.b->cmd("collapse f 0 4096")) == "err 16");
  CHECK(number_of(p.b->cmd("insert f 0 4096")) == "err 16");
  p.b->ok("punch f 4096 4096");  // what takes away can go on
  p.a->kill(SIGCONT);
  CHECK(soon([&] { return p.b->cmd("collapse f 0 4096") == "ok"; }));
  CHECK(p.a->cmd("load m 4096") == "1");
  CHECK(p.a->cmd("load m 0") == "0");
  p.leave();
}

TEST_CASE("a shift right after the clients have come back keeps what they store all the while", "[restart]") {
  Pair p;
  for (int round = 0; round < 5; ++round) {
    p.a->ok("fill m 0 1048576 " + std::to_string(40 + round));
    p.r.kill();
    p.a->ok("fill m 524288 4096 77");
    p.r.start();
    CHECK(soon([&] { return p.b->cmd("insert f 0 4096") == "ok"; }));
    p.b->ok("check m 4096 524288 " + std::to_string(40 + round));
    p.b->ok("check m 528384 4096 77");
    CHECK(soon([&] { return p.b->cmd("collapse f 0 4096") == "ok"; }));
    p.a->ok("check m 524288 4096 77");
  }
  p.leave();
}

TEST_CASE("calls wait for the next manager, but not longer than one is patient", "[restart]") {
  ::setenv("PMFS_PATIENCE_MS", "200", 1);
  Pair p;
  ::unsetenv("PMFS_PATIENCE_MS");
  p.r.kill();
  CHECK(number_of(p.a->cmd("stat f")) == "err 107");
  CHECK(number_of(p.a->cmd("write f 0 4096 5")) == "err 107");  // not begun: it has not happened
  CHECK(number_of(p.a->cmd("map f n 0 4096")) == "err 107");
  CHECK(number_of(p.a->cmd("unmap m")) == "err 107");
  p.r.start();
  CHECK(soon([&] { return p.a->cmd("stat f").substr(0, 8) == "1048576 "; }));
  p.a->ok("map f n 0 1048576");
  p.a->ok("check n 0 1048576 17");
  p.leave();
}

TEST_CASE("a call made while there is no manager is executed by the next", "[restart]") {
  Pair p;
  p.r.kill();
  p.a->ok("async 1 write f 0 4096 5");
  p.a->ok("async 2 map f n 0 65536");
  p.a->ok("async 3 open g /g rwc");
  p.b->ok("async 1 append f 4096 6");
  CHECK(p.a->cmd("poll 1") == "pending");
  p.r.start();
  CHECK(p.a->cmd("wait 1") == "4096");
  CHECK(p.a->cmd("wait 2") == "ok");
  CHECK(p.a->cmd("wait 3") == "ok");
  CHECK(p.b->cmd("wait 1") == "1048576");
  p.a->ok("check n 0 4096 5");
  p.leave();
}

TEST_CASE("a manager is replaced under load without a client noticing", "[restart]") {
  Pair p;
  p.a->ok("async 1 fill m 0 524288 1");
  p.b->ok("async 1 write f 524288 524288 2");
  for (int round = 0; round < 3; ++round) {
    auto next = std::make_unique<ManagerProcess>(p.r.path(), Restart::Args{"--takeover"});
    next->wait_ready();
    CHECK(p.r.manager().wait_exit() == 0);
    p.r.adopt(std::move(next));
    p.a->ok("store m 1048000 5");
    CHECK(p.b->cmd("load m 1048000") == "5");
    p.b->ok("punch f 8192 4096");
    p.b->ok("truncate f 2097152");
  }
  CHECK(p.a->cmd("wait 1") == "ok");
  CHECK(p.b->cmd("wait 1") == "524288");
  p.b->ok("check m 0 8192 1");
  p.leave();
}

TEST_CASE("taking over: what is wrong is told, and the volume stays where it is", "[restart]") {
  Restart r;
  r.kill();
  CHECK(error_of([&] { server::take_over(r.path(), 1); }) == ECONNREFUSED);
  r.start();
  ::kill(r.manager().pid(), SIGSTOP);
  CHECK(error_of([&] { server::take_over(r.path(), 0.2); }) == ETIMEDOUT);
  ::kill(r.manager().pid(), SIGCONT);
}

#ifdef PMFS_PAUSE_POINTS

TEST_CASE("interleaving 27: the manager is killed at each step of a fault", "[restart][gated]") {
  for (const char* point : {"fault:event_read", "fault:looked_up", "fault:entry_locked", "fault:resolved",
                            "fault:before_install", "fault:installed", "fault:vma_done"}) {
    CAPTURE(point);
    const bool stopped = GENERATE_COPY(false, true);
    Pair p({"--pause", point}, false);
    p.a->ok("async 1 store m 8192 1");
    p.r.manager().wait_arrived();
    if (stopped) p.a->stop();
    p.r.restart();
    CHECK(p.r.bad_ptes(*p.a) == 0);
    if (stopped) {
      p.b->ok("punch f 0 1048576");
      p.b->ok("store m 8193 4");
      CHECK(p.r.bad_ptes(*p.a) == 0);
      p.a->kill(SIGCONT);
    }
    CHECK(p.a->cmd("wait 1") == "ok");
    CHECK(p.b->cmd("load m 8192") == p.a->cmd("load m 8192"));
    if (!stopped) CHECK(p.b->cmd("load m 8192") == "1");
    p.a->ok("store m 8192 3");
    CHECK(p.b->cmd("load m 8192") == "3");
    p.leave();
  }
}

TEST_CASE("interleaving 27: the manager is killed at each step of an invalidate", "[restart][gated]") {
  for (const char* point : {"invalidate:entered", "invalidate:before_zap", "invalidate:before_free", "invalidate:done"}) {
    CAPTURE(point);
    const bool stopped = GENERATE_COPY(false, true);
    Pair p({"--pause", point});
    p.a->ok("check m 0 1048576 17");
    p.b->ok("async 1 punch f 8192 65536");
    p.r.manager().wait_arrived();
    if (stopped) p.a->stop();
    p.r.restart();
    CHECK(number_of(p.b->cmd("wait 1")) == "err 130");  // EOWNERDEAD
    const std::string now = p.b->cmd("load m 8192");
    CHECK(now == (std::string(point) == "invalidate:entered" ? "17" : "0"));
    CHECK(p.r.bad_ptes(*p.a) == 0);
    if (stopped) p.a->kill(SIGCONT);
    p.a->ok("check m 8192 65536 " + now);
    p.a->ok("check m 0 8192 17");
    p.a->ok("check m 73728 65536 17");
    p.b->ok("punch f 8192 65536");
    p.a->ok("check m 8192 65536 0");
    p.leave();
  }
}

TEST_CASE("interleaving 27: the manager is killed while it moves blocks", "[restart][gated]") {
  for (const char* point : {"shift:entered", "evacuate:frozen", "shift:before_zap", "invalidate:before_free"}) {
    CAPTURE(point);
    Pair p({"--pause", point});
    p.a->ok("fill m 4096 4096 1");
    p.b->ok("async 1 collapse f 0 4096");
    p.r.manager().wait_arrived();
    p.a->ok("async 1 store m 8000 2");  // may be write-protected
    p.r.restart();
    CHECK(number_of(p.b->cmd("wait 1")) == "err 130");
    CHECK(p.a->cmd("wait 1") == "ok");
    const bool moved = p.b->cmd("stat f").substr(0, 8) == "1044480 ";
    p.a->ok(moved ? "check m 0 3904 1" : "check m 4096 3904 1");
    CHECK(p.r.bad_ptes(*p.a) == 0);
    p.leave();
  }
}

TEST_CASE("interleaving 27: the manager is killed at each step of a mount and of a hand-over", "[restart][gated]") {
  for (const char* point : {"mount:zapped", "mount:free_zapped", "reattach:file", "reattach:map", "reattach:done"}) {
    CAPTURE(point);
    Pair p({"--pause", "invalidate:before_zap"});
    p.a->ok("check m 0 1048576 17");
    p.b->ok("async 1 truncate f 524288");
    p.r.manager().wait_arrived();
    p.a->ok("store m 100 1");
    p.r.kill();
    p.a->ok("async 1 load m 300000");
    p.r.launch({"--pause", point});
    p.r.manager().wait_arrived();
    p.a->ok("store m 101 2");
    p.r.restart();
    CHECK(number_of(p.b->cmd("wait 1")) == "err 130");
    CHECK(p.a->cmd("wait 1") == "17");
    CHECK(p.a->cmd("load m 600000") == "sigbus");
    CHECK(p.b->cmd("load m 100") == "1");
    CHECK(p.b->cmd("load m 101") == "2");
    CHECK(p.r.bad_ptes(*p.a) == 0);
    p.leave();
  }
}

TEST_CASE("what a call being executed comes to: asked again if it only looks, EOWNERDEAD if it changes", "[restart]") {
  {
    Pair p({"--pause", "fault:looked_up", "4"});  // after the four runs of the write
    p.a->ok("async 1 read f 0 4096");
    if (!p.r.manager().has_arrived(std::chrono::milliseconds(200))) {
      CHECK(p.a->cmd("wait 1").find("uniform 17") != std::string::npos);
      p.a->ok("async 1 read f 0 4096");
      p.r.manager().wait_arrived();
    }
    p.r.restart();
    CHECK(p.a->cmd("wait 1").find("uniform 17") != std::string::npos);
    p.leave();
  }
  {
    Pair p({"--pause", "write:copied"}, false);
    p.a->ok("async 1 write f 0 4096 5");
    p.r.manager().wait_arrived();
    p.r.restart();
    CHECK(number_of(p.a->cmd("wait 1")) == "err 130");
    CHECK(p.b->cmd("load m 0") == "0");  // the data was there, the transaction was not
    CHECK(p.a->cmd("write f 0 4096 5") == "4096");
    CHECK(p.b->cmd("load m 0") == "5");
    p.leave();
  }
}

TEST_CASE("a client killed in the middle of its hand-over leaves nothing behind", "[restart]") {
  for (const char* point : {"reattach:file", "reattach:map", "reattach:done"}) {
    CAPTURE(point);
    Pair p;
    p.b->kill(SIGKILL);
    p.a->ok("unlink /f");
    p.r.kill();
    p.r.launch({"--pause", point});
    p.r.manager().wait_arrived();
    p.a->kill(SIGKILL);
    p.r.restart();
    CHECK(p.r.statfs().blocks_used == 0);
    p.r.check_clean();
  }
}

#endif
