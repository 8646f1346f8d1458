/* The C API in one page: create a file, map it, store, make durable, read back, punch a hole.
 *
 *   c_client VOLUME_DIRECTORY      (a manager must serve it: pmfs serve VOLUME_DIRECTORY) */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "pmfs/pmfs.h"

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, pmfs_strerror());
  return 1;
}

int main(int argc, char** argv) {
  const size_t size = 1 << 20;
  const char text[] = "straight into the block";
  char back[sizeof text];
  pmfs_volume* volume;
  char* p;
  int fd;

  if (argc != 2) {
    fprintf(stderr, "usage: %s VOLUME_DIRECTORY\n", argv[0]);
    return 2;
  }
  volume = pmfs_connect(argv[1]);
  if (volume == NULL) return failed("connect");
  fd = pmfs_open(volume, "/example-c", O_RDWR | O_CREAT, 0644);
  if (fd < 0) return failed("open");
  if (pmfs_ftruncate(fd, (off_t)size) != 0) return failed("truncate");

  p = pmfs_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) return failed("mmap");
  memcpy(p + 8192, text, sizeof text);
  pmfs_persist(p + 8192, sizeof text); /* CLWB + SFENCE, no system call */

  if (pmfs_pread(fd, back, sizeof back, 8192) != (ssize_t)sizeof back) return failed("read");
  if (memcmp(back, text, sizeof text) != 0) {
    fprintf(stderr, "read back something else\n");
    return 1;
  }
  printf("read back: %s\n", back);

  if (pmfs_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 4096) != 0) return failed("punch");
  if (p[8192] != 0) {
    fprintf(stderr, "the hole is not zero\n");
    return 1;
  }
  printf("after the punch: %d\n", p[8192]);

  if (pmfs_munmap(p, size) != 0) return failed("munmap");
  if (pmfs_close(fd) != 0) return failed("close");
  if (pmfs_unlink(volume, "/example-c") != 0) return failed("unlink");
  pmfs_disconnect(volume);
  return 0;
}
