// P5: a manager that is killed and started again picks up its living clients.
#include "tests/integration/restart_fixture.h"

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
