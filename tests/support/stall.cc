// stall COMMAND [ARGS..]: runs the command while every processor is taken away from whoever is on it, for 0 to 6 ms at a time and half of
// the time, as a busy host does to its guest: threads are held up at any instruction, which pause points are not at. Exits as the command
// does. Needs CAP_SYS_NICE.
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

namespace {

int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

[[noreturn]] void take(int processor) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(processor, &one);
  const sched_param first{1};
  if (sched_setaffinity(0, sizeof one, &one) != 0 || sched_setscheduler(0, SCHED_FIFO, &first) != 0) {
    std::perror("stall: can't run before all others");
    _exit(1);
  }
  std::mt19937 random(static_cast<unsigned>(processor) + static_cast<unsigned>(getpid()));
  std::uniform_real_distribution<double> part(0, 1);
  for (;;) {
    const timespec pause{0, static_cast<long>(part(random) * 3e6)};
    nanosleep(&pause, nullptr);
    const int64_t until = now_ns() + static_cast<int64_t>(part(random) * part(random) * 6e6);
    while (now_ns() < until) {
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "stall COMMAND [ARGS..]\n");
    return 2;
  }
  cpu_set_t ours;
  if (sched_getaffinity(0, sizeof ours, &ours) != 0) return std::perror("stall: sched_getaffinity"), 2;
  std::vector<pid_t> takers;
  for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
    if (!CPU_ISSET(processor, &ours)) continue;
    const pid_t pid = fork();
    if (pid == 0) take(processor);
    if (pid > 0) takers.push_back(pid);
  }
  pid_t command = -1;
  const int err = posix_spawnp(&command, argv[1], nullptr, nullptr, argv + 1, environ);
  int status = 0;
  bool taken = err == 0;
  while (err == 0) {
    const pid_t ended = wait(&status);
    if (ended == command) break;
    taken = false;  // a taker that could not: the command is not worth its time
    kill(command, SIGTERM);
  }
  for (const pid_t pid : takers) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  if (err != 0) {
    std::fprintf(stderr, "stall: %s: %s\n", argv[1], std::strerror(err));
    return 2;
  }
  if (!taken) return 2;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
