/* The memory calls of mmap(2)'s family, as a program makes them, with what POSIX and Linux say must come of each. The same
 * program with the same expectations runs on tmpfs (the reference) and on a mount under the shim.
 *
 *   exerciser DIR [PART]      DIR: on the file system in question
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define PAGES ((size_t)64)
#define RW (PROT_READ | PROT_WRITE)

static int failures;
#define CHECK(what)                                                                   \
  do {                                                                                \
    if (!(what)) {                                                                    \
      printf("%s:%d: failed: %s (errno %d)\n", __FILE__, __LINE__, #what, errno);     \
      ++failures;                                                                     \
    }                                                                                 \
  } while (0)

static const char* dir;
static char path[4096];
static char* early; /* mapped before main */

static void fail_hard(const char* what) {
  perror(what);
  exit(2);
}

static int make_file(const char* name, size_t pages) {
  snprintf(path, sizeof path, "%s/%s", dir, name);
  const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
  if (fd < 0) fail_hard(path);
  char page[PAGE];
  for (size_t k = 0; k < pages; ++k) {
    memset(page, (int)(k + 1), PAGE);
    if (write(fd, page, PAGE) != (ssize_t)PAGE) fail_hard("write");
  }
  return fd;
}

static char* map(void* at, size_t pages, int prot, int flags, int fd, size_t first) {
  char* p = mmap(at, pages * PAGE, prot, flags, fd, (off_t)(first * PAGE));
  if (p == MAP_FAILED) fail_hard("mmap");
  return p;
}

static int byte_at(int fd, size_t page) {
  unsigned char c = 0;
  return pread(fd, &c, 1, (off_t)(page * PAGE)) == 1 ? c : -1;
}

static __thread sigjmp_buf jump;
static void on_fault(int sig) { siglongjmp(jump, sig); }
static int touch(char* p, int store) { /* 0 or the signal */
  const int sig = sigsetjmp(jump, 1);
  if (sig == 0) {
    const char c = *(volatile char*)p;
    if (store) *(volatile char*)p = c;
  }
  return sig;
}
static int mapped(const void* p) {
  unsigned char v;
  return mincore((void*)p, PAGE, &v) == 0;
}
static int child_says(pid_t pid) {
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* A static initialiser maps a file, as some libraries do. */
__attribute__((constructor)) static void before_main(int argc, char** argv) {
  if (argc < 2) return;
  dir = argv[1];
  const int fd = make_file("early", 4);
  early = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0);
  close(fd);
}

static void shared(void) {
  const int fd = make_file("shared", PAGES), ro = open(path, O_RDONLY), wo = open(path, O_WRONLY), dup_fd = dup(fd);
  errno = 77; /* a call that succeeds leaves it; LMDB relies on that */
  char* p = map(NULL, PAGES, RW, MAP_SHARED, fd, 0);
  CHECK(errno == 77 && msync(p, PAGE, MS_SYNC) == 0 && mprotect(p, PAGE, RW) == 0 && errno == 77);
  char* q = map(NULL, 8, PROT_READ, MAP_SHARED, ro, 8);
  char* d = map(NULL, 1, RW, MAP_SHARED_VALIDATE, dup_fd, 63);
  CHECK(p[0] == 1 && p[63 * PAGE] == 64 && q[0] == 9 && d[0] == 64);
  p[8 * PAGE] = 'a';
  CHECK(q[0] == 'a' && byte_at(fd, 8) == 'a');
  CHECK(pwrite(fd, "b", 1, 9 * PAGE) == 1 && q[PAGE] == 'b' && p[9 * PAGE] == 'b');
  CHECK(mmap(NULL, PAGE, RW, MAP_SHARED, ro, 0) == MAP_FAILED && errno == EACCES);
  CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, wo, 0) == MAP_FAILED && errno == EACCES);
  CHECK(mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EINVAL);
  CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 1) == MAP_FAILED && errno == EINVAL);
  CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, 9999, 0) == MAP_FAILED && errno == EBADF);
  CHECK(touch(q, 1) == SIGSEGV);
  close(fd), close(dup_fd), close(wo);
  unlink(path);
  p[10 * PAGE] = 'c'; /* closed and nameless */
  CHECK(q[2 * PAGE] == 'c' && byte_at(ro, 10) == 'c');
  CHECK(munmap(p, PAGES * PAGE) == 0 && munmap(q, 8 * PAGE) == 0 && munmap(d, PAGE) == 0);
  CHECK(!mapped(p) && !mapped(q));
  close(ro);
}

static void private_copy(void) {
  const int fd = make_file("private", 8);
  char* s = map(NULL, 8, RW, MAP_SHARED, fd, 0);
  s[PAGE] = 's';
  char* p = map(NULL, 8, RW, MAP_PRIVATE, fd, 0);
  CHECK(p[0] == 1 && p[PAGE] == 's' && p[7 * PAGE] == 8);
  p[0] = 'p';
  CHECK(s[0] == 1 && byte_at(fd, 0) == 1 && p[0] == 'p');
  CHECK(mprotect(p, PAGE, PROT_READ) == 0 && touch(p, 1) == SIGSEGV && touch(p + PAGE, 1) == 0);
  CHECK(mprotect(p, PAGE, RW) == 0);
  char* moved = mremap(p, 8 * PAGE, 16 * PAGE, MREMAP_MAYMOVE);
  CHECK(moved != MAP_FAILED && moved[0] == 'p' && moved[7 * PAGE] == 8);
  const int ro = open(path, O_RDONLY);
  char* r = map(NULL, 8, RW, MAP_PRIVATE, ro, 0); /* a private mapping may be written of any readable fd */
  r[0] = 'r';
  CHECK(byte_at(fd, 0) == 1);
  munmap(moved, 16 * PAGE), munmap(s, 8 * PAGE), munmap(r, 8 * PAGE);
  close(fd), close(ro);
}

static void pieces(void) {
  const int fd = make_file("pieces", PAGES);
  char* p = map(NULL, PAGES, RW, MAP_SHARED, fd, 0);
  for (size_t k = 0; k < PAGES; ++k) CHECK(p[k * PAGE] == (char)(k + 1));
  CHECK(munmap(p + 8 * PAGE, 8 * PAGE) == 0 && munmap(p, PAGE) == 0 && munmap(p + 63 * PAGE, PAGE) == 0);
  CHECK(!mapped(p) && mapped(p + PAGE) && mapped(p + 7 * PAGE) && !mapped(p + 8 * PAGE) && !mapped(p + 15 * PAGE) && mapped(p + 16 * PAGE));
  CHECK(p[7 * PAGE] == 8 && p[16 * PAGE] == 17);
  /* other things in the holes, and over the edges of what is left */
  char* anon = map(p + 8 * PAGE, 4, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  anon[0] = 'n';
  map(p + 6 * PAGE, 4, RW, MAP_SHARED | MAP_FIXED, fd, 40);
  CHECK(p[5 * PAGE] == 6 && p[6 * PAGE] == 41 && p[9 * PAGE] == 44 && anon[2 * PAGE] == 0);
  map(p + 20 * PAGE, 2, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  CHECK(p[19 * PAGE] == 20 && p[20 * PAGE] == 0 && p[22 * PAGE] == 23);
  CHECK(mmap(p + 30 * PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) == MAP_FAILED && errno == EEXIST);
  CHECK(mmap(p + 30 * PAGE, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED && errno == EEXIST);
  CHECK(munmap(p, PAGES * PAGE) == 0); /* all of it: ours, others', holes */
  for (size_t k = 0; k < PAGES; ++k) CHECK(!mapped(p + k * PAGE));
  char* hint = map(p, 4, RW, MAP_SHARED, fd, 0);
  CHECK(hint == p);
  munmap(hint, 4 * PAGE);
  close(fd);
}

static void protect(void) {
  const int fd = make_file("protect", 16), ro = open(path, O_RDONLY);
  char* p = map(NULL, 16, RW, MAP_SHARED, fd, 0);
  CHECK(mprotect(p + 4 * PAGE, 4 * PAGE, PROT_READ) == 0 && mprotect(p + 6 * PAGE, 4 * PAGE, PROT_NONE) == 0);
  CHECK(touch(p + 3 * PAGE, 1) == 0 && touch(p + 4 * PAGE, 1) == SIGSEGV && touch(p + 4 * PAGE, 0) == 0);
  CHECK(touch(p + 6 * PAGE, 0) == SIGSEGV && touch(p + 9 * PAGE, 0) == SIGSEGV && touch(p + 10 * PAGE, 1) == 0);
  CHECK(mprotect(p, 16 * PAGE, RW) == 0);
  p[6 * PAGE] = 'w';
  CHECK(byte_at(fd, 6) == 'w' && p[7 * PAGE] == 8);
  char* q = map(NULL, 4, PROT_READ, MAP_SHARED, ro, 0);
  CHECK(mprotect(q, PAGE, RW) == -1 && errno == EACCES);
  char* none = map(NULL, 4, PROT_NONE, MAP_SHARED, fd, 0);
  CHECK(touch(none, 0) == SIGSEGV && mprotect(none, PAGE, RW) == 0 && none[0] == 1);
  munmap(p, 16 * PAGE), munmap(q, 4 * PAGE), munmap(none, 4 * PAGE);
  close(fd), close(ro);
}

static void remap(void) {
  const int fd = make_file("remap", PAGES);
  char* p = map(NULL, 32, RW, MAP_SHARED, fd, 0);
  CHECK(mremap(p, 32 * PAGE, 16 * PAGE, 0) == p && !mapped(p + 16 * PAGE) && p[15 * PAGE] == 16);
  char* wall = mmap(p + 20 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  CHECK(mremap(p, 16 * PAGE, 32 * PAGE, 0) == MAP_FAILED && errno == ENOMEM);
  char* m = mremap(p, 16 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
  CHECK(m != MAP_FAILED && m[63 * PAGE] == 64 && !mapped(p) && mapped(wall));
  m[63 * PAGE] = 'm';
  CHECK(byte_at(fd, 63) == 'm');
  char* to = map(NULL, 8, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(mremap(m + 8 * PAGE, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
  CHECK(to[0] == 9 && to[7 * PAGE] == 16 && !mapped(m + 8 * PAGE) && m[16 * PAGE] == 17);
  char* twin = mremap(to, 0, 8 * PAGE, MREMAP_MAYMOVE);
  CHECK(twin != MAP_FAILED);
  twin[0] = 't';
  CHECK(to[0] == 't' && byte_at(fd, 8) == 't');
  /* anonymous memory over a mapping of the file */
  char* anon = map(NULL, 8, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  anon[0] = 'x';
  CHECK(mremap(anon, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, twin) == twin && twin[0] == 'x' && to[0] == 't');
  munmap(m, 64 * PAGE), munmap(to, 8 * PAGE), munmap(twin, 8 * PAGE), munmap(wall, PAGE);
  close(fd);
}

static void advise_and_sync(void) {
  const int fd = make_file("advise", 16);
  char* p = map(NULL, 16, RW, MAP_SHARED | MAP_POPULATE, fd, 0);
  const struct timespec old[2] = {{1000, 0}, {1000, 0}};
  struct stat st;
  p[3 * PAGE] = 'd';
  CHECK(madvise(p, 16 * PAGE, MADV_DONTNEED) == 0 && p[3 * PAGE] == 'd');
  CHECK(madvise(p, 16 * PAGE, MADV_WILLNEED) == 0 && madvise(p, 16 * PAGE, MADV_SEQUENTIAL) == 0);
  CHECK(madvise(p + 4 * PAGE, 4 * PAGE, MADV_REMOVE) == 0);
  CHECK(fstat(fd, &st) == 0 && st.st_blocks == 12 * 8);
  CHECK(lseek(fd, 0, SEEK_HOLE) == 4 * (off_t)PAGE && p[4 * PAGE] == 0 && p[8 * PAGE] == 9);
  CHECK(madvise(p, PAGE, 12345) == -1 && errno == EINVAL);
  p[4 * PAGE] = 'h';
  CHECK(byte_at(fd, 4) == 'h');
  CHECK(msync(p, 16 * PAGE, MS_SYNC) == 0 && msync(p, 1, MS_ASYNC) == 0 && fsync(fd) == 0);
  CHECK(msync(p, PAGE, MS_SYNC | MS_ASYNC) == -1 && errno == EINVAL);
  CHECK(msync(p + 1, PAGE, MS_SYNC) == -1 && errno == EINVAL);
  CHECK(futimens(fd, old) == 0);
  usleep(10000);
  CHECK(munmap(p, 16 * PAGE) == 0);
  p = map(NULL, 16, RW, MAP_SHARED, fd, 0);
  CHECK(futimens(fd, old) == 0);
  usleep(10000);
  p[5 * PAGE] = 't'; /* a page that is new to this mapping */
  CHECK(msync(p, 16 * PAGE, MS_SYNC) == 0 && fstat(fd, &st) == 0 && st.st_mtim.tv_sec > 1000);
  munmap(p, 16 * PAGE);
  close(fd);
}

static void sizes(void) {
  const int fd = make_file("sizes", 4);
  char* p = map(NULL, 16, RW, MAP_SHARED, fd, 0);
  CHECK(touch(p + 3 * PAGE, 1) == 0 && touch(p + 4 * PAGE, 0) == SIGBUS);
  CHECK(ftruncate(fd, 8 * PAGE) == 0 && touch(p + 4 * PAGE, 1) == 0 && p[4 * PAGE] == 0);
  CHECK(ftruncate(fd, PAGE + 10) == 0 && touch(p + PAGE, 1) == 0 && touch(p + 2 * PAGE, 0) == SIGBUS);
  CHECK(ftruncate(fd, 4 * PAGE) == 0 && p[PAGE + 100] == 0 && p[2 * PAGE] == 0 && p[PAGE] == 2);
  CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * PAGE) == 0 && p[0] == 0 && p[PAGE] == 0);
  /* system calls on mapped memory, of the same file too */
  memset(p, 'q', PAGE);
  CHECK(pwrite(fd, p, PAGE, 2 * PAGE) == (ssize_t)PAGE && p[2 * PAGE + 5] == 'q');
  CHECK(pread(fd, p + 3 * PAGE, PAGE, 0) == (ssize_t)PAGE && p[3 * PAGE + 9] == 'q');
  struct iovec v[2] = {{p, 10}, {p + PAGE, 10}};
  CHECK(preadv(fd, v, 2, 2 * PAGE) == 20 && p[PAGE] == 'q');
  CHECK(pwrite(fd, p + 8 * PAGE, 10, 0) == -1 && errno == EFAULT); /* behind the end */
  munmap(p, 16 * PAGE);
  close(fd);
}

static void children(char** argv) {
  const int fd = make_file("children", 16);
  char* p = map(NULL, 16, RW, MAP_SHARED, fd, 0);
  char* secret = map(NULL, 4, RW, MAP_SHARED, fd, 4);
  CHECK(madvise(secret, 4 * PAGE, MADV_DONTFORK) == 0);
  p[0] = 'a';
  pid_t pid = fork();
  if (pid == 0) {
    alarm(60);
    const int ok = p[0] == 'a' && !mapped(secret);
    p[PAGE] = 'b';
    char* q = map(NULL, 1, RW, MAP_SHARED, fd, 2);
    q[0] = 'c';
    pid_t grandchild = fork();
    if (grandchild == 0) {
      p[3 * PAGE] = 'g';
      _exit(p[2 * PAGE] == 'c' ? 0 : 1);
    }
    _exit(ok && child_says(grandchild) == 0 ? 0 : 1);
  }
  CHECK(child_says(pid) == 0);
  CHECK(p[PAGE] == 'b' && p[2 * PAGE] == 'c' && p[3 * PAGE] == 'g' && secret[0] == 5);
  pid = vfork();
  if (pid == 0) _exit(7);
  CHECK(child_says(pid) == 7);
  /* exec and posix_spawn: the fd is inherited, the mappings are not */
  char number[16];
  snprintf(number, sizeof number, "%d", fd);
  char* args[] = {argv[0], argv[1], "inherited", number, NULL};
  CHECK(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, args, environ) == 0 && child_says(pid) == 0);
  CHECK(p[5 * PAGE] == 'i');
  pid = fork();
  if (pid == 0) {
    execv("/proc/self/exe", args);
    _exit(9);
  }
  CHECK(child_says(pid) == 0);
  munmap(p, 16 * PAGE), munmap(secret, 4 * PAGE);
  close(fd);
}

static int inherited(int fd) {
  char* p = map(NULL, 16, RW, MAP_SHARED, fd, 0);
  p[5 * PAGE] = 'i';
  return p[0] == 'a' && failures == 0 ? 0 : 1;
}

static atomic_int signals;
static char* handler_page;
static void on_alarm(int sig) {
  (void)sig;
  ++*(volatile char*)handler_page;
  atomic_fetch_add(&signals, 1);
}
struct job {
  int fd;
  size_t number;
};
static void* thread_body(void* arg) {
  struct job* j = arg;
  const size_t first = j->number * 8;
  for (int n = 0; n < 60 || (j->number == 0 && atomic_load(&signals) == 0); ++n) {  // the first one lives to be signalled
    char* p = map(NULL, 8, RW, MAP_SHARED, j->fd, first);
    for (size_t k = 0; k < 8; ++k) p[k * PAGE] = (char)n;
    if (munmap(p + 2 * PAGE, 3 * PAGE) != 0) ++failures;
    if (byte_at(j->fd, first + 6) != (char)n || p[7 * PAGE] != (char)n) ++failures;
    if (munmap(p, 8 * PAGE) != 0) ++failures;
  }
  return NULL;
}
static void threads_and_signals(void) {
  const int fd = make_file("threads", 40);
  handler_page = map(NULL, 1, RW, MAP_SHARED, fd, 39);
  struct sigaction sa = {0};
  sa.sa_handler = on_alarm;
  sa.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &sa, NULL);
  pthread_t t[4];
  struct job jobs[4];
  for (size_t i = 0; i < 4; ++i) {
    jobs[i] = (struct job){fd, i};
    if (pthread_create(&t[i], NULL, thread_body, &jobs[i]) != 0) fail_hard("pthread_create");
  }
  for (int i = 0; i < 20; ++i) {
    pthread_kill(t[0], SIGALRM);
    pid_t pid = i % 5 == 0 ? fork() : -1;
    if (pid == 0) _exit(0);
    if (pid > 0) CHECK(child_says(pid) == 0);
    usleep(1000);
  }
  for (size_t i = 0; i < 4; ++i) pthread_join(t[i], NULL);
  CHECK(atomic_load(&signals) > 0);
  munmap(handler_page, PAGE);
  close(fd);
}

static void early_mapping(void) {
  CHECK(early != MAP_FAILED && early[0] == 1 && early[3 * PAGE] == 4);
  early[0] = 'e';
  snprintf(path, sizeof path, "%s/early", dir);
  const int fd = open(path, O_RDONLY);
  CHECK(byte_at(fd, 0) == 'e');
  close(fd);
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  struct sigaction sa = {0};
  sa.sa_handler = on_fault;
  sigaction(SIGSEGV, &sa, NULL);
  sigaction(SIGBUS, &sa, NULL);
  if (argc == 4 && strcmp(argv[2], "inherited") == 0) return inherited(atoi(argv[3]));
  early_mapping();
  shared();
  private_copy();
  pieces();
  protect();
  remap();
  advise_and_sync();
  sizes();
  children(argv);
  threads_and_signals();
  printf(failures == 0 ? "ok\n" : "%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
