// Touching memory that may answer with SIGBUS.
#include <setjmp.h>

#include <atomic>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "tools/torture/worker.h"

namespace torture {

namespace {

thread_local sigjmp_buf t_env;
thread_local volatile sig_atomic_t t_armed = 0;

void on_sigbus(int) {
  if (t_armed == 0) {  // not one of our touches: die of it, visibly
    signal(SIGBUS, SIG_DFL);
    return;
  }
  t_armed = 0;
  siglongjmp(t_env, 1);
}

}  // namespace

void catch_sigbus() {
  struct sigaction sa{};
  sa.sa_handler = on_sigbus;
  sa.sa_flags = SA_NODEFER;  // the jump does not restore the mask
  sigaction(SIGBUS, &sa, nullptr);
}

[[gnu::noinline]] bool load_word(const std::byte* p, uint64_t* value) {
  if (sigsetjmp(t_env, 0) != 0) return false;
  t_armed = 1;
  *value = __atomic_load_n(reinterpret_cast<const uint64_t*>(p), __ATOMIC_SEQ_CST);
  t_armed = 0;
  return true;
}

[[gnu::noinline]] bool store_word(std::byte* p, uint64_t value) {
  if (sigsetjmp(t_env, 0) != 0) return false;
  t_armed = 1;
  __atomic_store_n(reinterpret_cast<uint64_t*>(p), value, __ATOMIC_SEQ_CST);
  t_armed = 0;
  return true;
}

uint64_t block_at(const void* va) {
  auto address = reinterpret_cast<uint64_t>(va);
  FILE* maps = fopen("/proc/self/maps", "re");
  uint64_t block = ~uint64_t{0};
  char line[1024];
  while (maps != nullptr && fgets(line, sizeof line, maps) != nullptr) {
    uint64_t first = 0, end = 0, offset = 0;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64, &first, &end, &offset) != 3) continue;
    line[strcspn(line, "\n")] = 0;
    size_t n = strlen(line);
    if (first <= address && address < end && n > 5 && strcmp(line + n - 5, "/data") == 0)
      block = (offset + address - first) / kPage;
  }
  if (maps != nullptr) fclose(maps);
  return block;
}

}  // namespace torture
