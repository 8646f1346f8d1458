// Four processes map the same file. Each counts in a place of its own with plain stores and in a shared place with
// atomic additions, and prints what it sees of the others. Then a fifth, this one, punches the page away under
// their hands: all of them read zeros through the mappings they have, and a truncate takes the page beyond the end
// of file and back, with zeros again.
//
//   shared_counter VOLUME_DIRECTORY [SECONDS]      (a manager must serve it: pmfs serve VOLUME_DIRECTORY)
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "pmfs/pmfs.hpp"

namespace {

constexpr int kProcesses = 4;
constexpr size_t kPage = 4096;
constexpr char kPath[] = "/shared-counter";

using Count = std::atomic<uint64_t>;  // a relaxed store is a plain store; only that no compiler may split or drop it
struct alignas(64) Line {
  Count n;
};
struct Board {  // page 0: what everybody counts in, and what is punched
  Line shared, own[kProcesses];
};
struct Stage {  // page 1: who is where
  std::atomic<int> counted, punched, seen_zeros, end;
};
static_assert(sizeof(Board) <= kPage && sizeof(Stage) <= kPage && Count::is_always_lock_free);

using Clock = std::chrono::steady_clock;

// False after ten seconds: a process that died must not make the others wait for ever.
bool wait_for(const std::atomic<int>& what, int value) {
  for (const auto end = Clock::now() + std::chrono::seconds(10); what.load() < value;) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

uint64_t sum(const Board& b) {
  uint64_t total = 0;
  for (const Line& l : b.own) total += l.n.load();
  return total;
}

void print(int me, const Board& b, const char* what) {
  std::printf("  process %d (pid %d) %-7s own:", me, getpid(), what);
  for (const Line& l : b.own) std::printf(" %9ju", static_cast<uintmax_t>(l.n.load()));
  std::printf("   shared: %9ju\n", static_cast<uintmax_t>(b.shared.n.load()));
  std::fflush(stdout);
}

int count(const char* volume_path, int me, double seconds) {
  pmfs::Volume volume(volume_path);
  pmfs::File file = volume.open(kPath, O_RDWR);
  pmfs::Mapping map = file.map(0, 2 * kPage);
  auto& board = *reinterpret_cast<Board*>(map.data());
  auto& stage = *reinterpret_cast<Stage*>(map.data() + kPage);

  uint64_t mine = 0;
  for (int quarter = 1; quarter <= 4; ++quarter) {
    const auto end = Clock::now() + std::chrono::duration<double>(seconds / 4);
    while (Clock::now() < end) {
      for (int i = 0; i < 1000; ++i) {
        board.own[me].n.store(++mine, std::memory_order_relaxed);
        board.shared.n.fetch_add(1, std::memory_order_relaxed);
      }
    }
    print(me, board, "sees");
  }
  stage.counted.fetch_add(1);
  if (!wait_for(stage.punched, 1)) return 1;
  print(me, board, "then");
  if (sum(board) != 0 || board.shared.n.load() != 0) return 1;
  stage.seen_zeros.fetch_add(1);
  return wait_for(stage.end, 1) ? 0 : 1;
}

int run(const char* volume_path, double seconds) {
  pid_t children[kProcesses];
  {
    pmfs::File file = pmfs::Volume(volume_path).open(kPath, O_RDWR | O_CREAT | O_TRUNC, 0600);
    file.truncate(2 * kPage);
  }
  for (int i = 0; i < kProcesses; ++i) {
    children[i] = fork();
    if (children[i] < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (children[i] == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      int status = 1;
      try {
        status = count(volume_path, i, seconds);
      } catch (const std::exception& e) {
        std::fprintf(stderr, "process %d: %s\n", i, e.what());
      }
      std::fflush(stdout);
      _exit(status);
    }
  }

  pmfs::Volume volume(volume_path);
  pmfs::File file = volume.open(kPath, O_RDWR);
  pmfs::Mapping map = file.map(0, 2 * kPage);
  const auto& board = *reinterpret_cast<const Board*>(map.data());
  auto& stage = *reinterpret_cast<Stage*>(map.data() + kPage);

  bool good = wait_for(stage.counted, kProcesses);
  const uint64_t total = sum(board), shared = board.shared.n.load();
  std::printf("all counted: the four own counters make %ju, the shared one is %ju: %s\n",
              static_cast<uintmax_t>(total), static_cast<uintmax_t>(shared),
              total == shared ? "equal" : "NOT EQUAL");
  good = good && total == shared && total != 0;

  file.punch(0, kPage);
  std::printf("punched page 0; each of them reads it again through the mapping it has:\n");
  std::fflush(stdout);
  stage.punched.store(1);
  good = wait_for(stage.seen_zeros, kProcesses) && good;

  map.bytes()[64] = std::byte{1};
  stage.end.store(1);
  for (const pid_t pid : children) {
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || status != 0) good = false;
  }
  file.truncate(0);
  file.truncate(2 * kPage);
  const int byte = static_cast<int>(map.bytes()[64]);
  std::printf("stored 1, truncated to 0 and grew again: the byte is %d now\n", byte);
  good = good && byte == 0;
  map.unmap();
  volume.unlink(kPath);
  std::printf("%s\n", good ? "as it should be" : "NOT as it should be");
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: %s VOLUME_DIRECTORY [SECONDS]\n", argv[0]);
    return 2;
  }
  try {
    return run(argv[1], argc == 3 ? std::atof(argv[2]) : 2.0);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
