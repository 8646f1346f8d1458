// System calls on mapped memory, and reads and writes of a file from memory mapped from a file (interleavings
// 15, 16).
#include "tests/integration/fixture.h"

using namespace pmfs;
using namespace pmfs::test;

namespace {

struct Mapped {
  Manager m;
  std::unique_ptr<ClientProcess> a = m.client(), b = m.client();
  std::string plain = m.path() + "-plain";
  explicit Mapped(std::string_view scheme = exclusion::kDefaultScheme) : m(with_scheme(scheme)) {
    for (auto* c : {a.get(), b.get()}) {
      c->ok("open f /f rwc");
      c->ok("truncate f 1048576");
      c->ok("map f m 0 1048576");
      c->ok("open g /g rwc");
      c->ok("truncate g 1048576");
      c->ok("map g n 0 1048576");
    }
    CHECK(b->cmd("write f 0 1048576 17") == "1048576");
  }
};

}  // namespace

TEST_CASE("write(2) from mapped memory and read(2) into it, none of it touched before", "[syscall]") {
  Mapped t;
  CHECK(t.a->cmd("syswrite m 4096 65536 " + t.plain) == "65536");
  CHECK(t.a->cmd("sysread n 131072 65536 " + t.plain) == "65536");
  t.b->ok("check n 131072 65536 17");
  t.b->ok("check n 0 131072 0");
  t.m.check_clean();
}

TEST_CASE("O_DIRECT read into mapped memory", "[syscall]") {
  Mapped t;
  TempDir disk;  // tmpfs takes O_DIRECT since Linux 6.6; an error other than that is a failure
  CHECK(t.a->cmd("syswrite m 0 65536 " + t.plain) == "65536");
  std::string r = t.a->cmd("sysread n 0 65536 " + t.plain + " direct");
  CHECK(r == "65536");
  t.b->ok("check n 0 65536 17");
  t.m.check_clean();
}

TEST_CASE("a system call beyond the end of the file gets EFAULT, not a hang", "[syscall]") {
  Mapped t;
  t.b->ok("truncate f 4096");
  std::string r = t.a->cmd("syswrite m 8192 4096 " + t.plain);
  CHECK((r.substr(0, 6) == "err 14" || r == "sigbus"));
}

TEST_CASE("interleaving 15: write(A from a buffer mapped from B) against the reverse, with punches on both", "[syscall]") {
  for (const exclusion::SchemeInfo& s : exclusion::schemes()) {
    if (!s.sound) continue;
    INFO(s.name);
    Mapped t(s.name);
    for (int i = 0; i < 15; ++i) {
      t.a->ok("async 1 xwrite f 0 n 0 262144");
      t.b->ok("async 1 xwrite g 0 m 0 262144");
      t.a->ok("punch g 0 262144");
      t.b->ok("punch f 0 262144");
      CHECK(t.a->cmd("wait 1") == "262144");
      CHECK(t.b->cmd("wait 1") == "262144");
    }
    t.m.check_clean();
  }
}

TEST_CASE("interleaving 16: write(A from a buffer mapped from the same range of A), also under a punch", "[syscall]") {
  for (const exclusion::SchemeInfo& s : exclusion::schemes()) {
    if (!s.sound) continue;
    INFO(s.name);
    Mapped t(s.name);
    CHECK(t.a->cmd("xwrite f 0 m 0 262144") == "262144");
    t.b->ok("check m 0 262144 17");
    for (int i = 0; i < 15; ++i) {
      t.a->ok("async 1 xwrite f 0 m 0 262144");
      t.b->ok("punch f 65536 65536");
      CHECK(t.a->cmd("wait 1") == "262144");
    }
    t.m.check_clean();
  }
}
