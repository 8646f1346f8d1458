/* The same accesses through a mapping of libpmfs's and through an ordinary mmap, for bench/direct_mapping.py.
 *
 *   pmfs-bench-direct-mapping native VOLUME PATH MIB     pmfs_mmap of VOLUME:PATH
 *   pmfs-bench-direct-mapping mmap - FILE MIB            mmap of FILE, which under the preload shim is libpmfs's too
 *
 * Says "mapped" and waits for a line; writes a word of each page, in order; says how long that took per page, waits for a line;
 * then random reads and writes of words, and says the median of its rounds, in ns per access. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "pmfs/pmfs.h"

enum { kRounds = 21, kAccesses = 1000000, kPage = 4096 };

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void wait_line(void) {
  char line[16];
  if (fgets(line, sizeof line, stdin) == NULL) exit(3);
}

static int by_value(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static void* map(const char* how, const char* volume, const char* path, size_t bytes) {
  if (strcmp(how, "native") == 0) {
    pmfs_volume* v = pmfs_connect(volume);
    const int fd = v == NULL ? -1 : pmfs_open(v, path, O_RDWR, 0);
    return fd < 0 ? MAP_FAILED : pmfs_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  return fd < 0 ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const size_t bytes = (size_t)atol(argv[4]) << 20;
  char* p = map(argv[1], argv[2], argv[3], bytes);
  if (p == MAP_FAILED) {
    perror(argv[3]);
    return 1;
  }
  printf("mapped %d\n", (uintptr_t)p % (2 << 20) == 0);
  fflush(stdout);
  wait_line();
  double begin = now_ns();
  for (size_t at = 0; at < bytes; at += kPage) ++*(volatile uint64_t*)(p + at);
  printf("touched %.1f\n", (now_ns() - begin) / (double)(bytes / kPage));
  fflush(stdout);
  wait_line();
  double rounds[kRounds];
  uint64_t x = 1;
  for (int r = 0; r < kRounds; ++r) {
    begin = now_ns();
    for (int i = 0; i < kAccesses; ++i) {
      x = x * 6364136223846793005u + 1442695040888963407u;
      volatile uint64_t* word = (volatile uint64_t*)(p + (x >> 20) % bytes / 8 * 8);
      if (i & 1) *word = x;
      else x ^= *word;
    }
    rounds[r] = (now_ns() - begin) / kAccesses;
  }
  qsort(rounds, kRounds, sizeof rounds[0], by_value);
  printf("steady %.3f\n", rounds[kRounds / 2]);
  return 0;
}
