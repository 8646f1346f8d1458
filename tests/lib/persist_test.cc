#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstddef>
#include <vector>

#include "pmfs/pmfs.h"
#include "pmfs/pmfs.hpp"

namespace {

// From now on any system call but exit_group kills the process.
bool forbid_system_calls() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  sock_fprog program{static_cast<unsigned short>(std::size(filter)), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

int run_without_system_calls(void (*body)(std::byte*)) {
  std::vector<std::byte> memory(1 << 16);
  const pid_t pid = fork();
  if (pid == 0) {
    pmfs::persist(memory.data(), 1);  // chooses the functions, once per process
    if (!forbid_system_calls()) _exit(2);
    body(memory.data());
    syscall(SYS_exit_group, 0);
  }
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  return status;
}

}  // namespace

TEST_CASE("persist makes no system call") {
  CHECK(run_without_system_calls([](std::byte* p) {
          for (size_t i = 0; i < 1000; ++i) {
            p[i] = std::byte{1};
            pmfs::persist(p + i, 64);
            pmfs::flush(p + i, 4096);
            pmfs::drain();
            pmfs_persist(p, 1 << 16);
          }
        }) == 0);
}

TEST_CASE("the check above sees a system call") {
  const int status = run_without_system_calls([](std::byte*) { syscall(SYS_getppid); });
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGSYS);
}
