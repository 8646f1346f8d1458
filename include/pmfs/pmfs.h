/* pmfs: C client API. POSIX-like names; -1 (or MAP_FAILED, or NULL) and errno on error; pmfs_strerror() has the
 * sentence of this thread's last error. File handles are small integers of this library, not kernel fds. */
#ifndef PMFS_H
#define PMFS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct pmfs_volume pmfs_volume;

pmfs_volume* pmfs_connect(const char* volume_path);
void pmfs_disconnect(pmfs_volume* v); /* handles and mappings of it go on until closed */

int pmfs_open(pmfs_volume* v, const char* path, int flags, mode_t mode);
int pmfs_close(int fd);
void* pmfs_mmap(void* hint_unused, size_t length, int prot, int flags, int fd, off_t offset); /* MAP_SHARED only */
int pmfs_munmap(void* addr, size_t length); /* exactly a range that pmfs_mmap returned */
ssize_t pmfs_pread(int fd, void* buf, size_t n, off_t offset);
ssize_t pmfs_pwrite(int fd, const void* buf, size_t n, off_t offset);
ssize_t pmfs_append(int fd, const void* buf, size_t n);
int pmfs_ftruncate(int fd, off_t size);
int pmfs_fallocate(int fd, int mode, off_t offset, off_t length); /* 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE */
int pmfs_fsync(int fd);
int pmfs_fstat(int fd, struct stat* st);
int pmfs_stat(pmfs_volume* v, const char* path, struct stat* st);
int pmfs_mkdir(pmfs_volume* v, const char* path, mode_t mode);
int pmfs_rmdir(pmfs_volume* v, const char* path);
int pmfs_unlink(pmfs_volume* v, const char* path);
int pmfs_rename(pmfs_volume* v, const char* from, const char* to);

void pmfs_persist(const void* p, size_t bytes); /* no system call */
const char* pmfs_strerror(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
