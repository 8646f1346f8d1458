// Reads that the memory does not answer.
#include <catch2/catch.hpp>

#include <csignal>
#include <cstring>
#include <thread>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmfs/base/survive.h"
#include "pmfs/base/types.h"

using namespace pmfs;

namespace {

// A page of a file that has been cut short since.
struct Lost {
  int fd = memfd_create("lost", MFD_CLOEXEC);
  char* p = nullptr;
  Lost() {
    REQUIRE(ftruncate(fd, kBlockSize) == 0);
    p = static_cast<char*>(mmap(nullptr, kBlockSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    REQUIRE(p != MAP_FAILED);
    p[0] = 'x';
  }
  void lose() { REQUIRE(ftruncate(fd, 0) == 0); }
  ~Lost() {
    munmap(p, kBlockSize);
    close(fd);
  }
};

}  // namespace

TEST_CASE("a read that ends in SIGBUS is told, again and again, in every thread; one that does not is done") {
  Lost l;
  char c[16] = {};
  CHECK(survive_sigbus([&] { std::memcpy(c, l.p, sizeof c); }));
  CHECK(c[0] == 'x');
  l.lose();
  for (int i = 0; i < 3; ++i) CHECK_FALSE(survive_sigbus([&] { std::memcpy(c, l.p, sizeof c); }));
  bool other = true;
  std::thread([&] { other = survive_sigbus([&] { std::memcpy(c, l.p, sizeof c); }); }).join();
  CHECK_FALSE(other);
  // One within another: the inner one has it.
  bool inner = true;
  CHECK(survive_sigbus([&] { inner = survive_sigbus([&] { std::memcpy(c, l.p, sizeof c); }); }));
  CHECK_FALSE(inner);
}

TEST_CASE("a SIGBUS that nobody waits for ends the process still") {
  Lost l;
  CHECK(survive_sigbus([] {}));
  l.lose();
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    signal(SIGALRM, SIG_DFL);
    alarm(60);
    volatile char c = *static_cast<volatile char*>(l.p);
    (void)c;
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) == 0));  // the sanitizer's own handler reports it
#else
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS));
#endif
}
