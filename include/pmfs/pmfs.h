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
/* By the manager's read-only socket (pmfs serve --read-only-socket-mode). EROFS: what would change the volume; EACCES: PROT_WRITE. */
pmfs_volume* pmfs_connect_read_only(const char* volume_path);
void pmfs_disconnect(pmfs_volume* v); /* handles and mappings of it go on until closed */

int pmfs_open(pmfs_volume* v, const char* path, int flags, mode_t mode);
int pmfs_close(int fd);
int pmfs_open_inode(pmfs_volume* v, uint64_t ino, uint64_t generation, int flags); /* by number; O_RDONLY, O_RDWR; ESTALE */

/* Mappings, as the system calls of these names: hints, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_POPULATE, MAP_SYNC; pieces of
 * mappings, several at once. Not: MAP_PRIVATE (EOPNOTSUPP), PROT_EXEC (EACCES), MREMAP_DONTUNMAP (EINVAL). Parts of a range that
 * are no pmfs mappings are left alone. While MAP_FIXED replaces a mapping nobody may touch it (SIGSEGV). */
void* pmfs_mmap(void* addr, size_t length, int prot, int flags, int fd, off_t offset);
int pmfs_munmap(void* addr, size_t length);
void* pmfs_mremap(void* old, size_t old_length, size_t new_length, int flags, void* new_addr);
int pmfs_mprotect(void* addr, size_t length, int prot);
int pmfs_msync(void* addr, size_t length, int flags); /* durable, and the file's mtime is new, with MS_ASYNC too */
int pmfs_madvise(void* addr, size_t length, int advice); /* MADV_REMOVE punches a hole; MADV_DONTFORK */
ssize_t pmfs_pread(int fd, void* buf, size_t n, off_t offset);
ssize_t pmfs_pwrite(int fd, const void* buf, size_t n, off_t offset);
ssize_t pmfs_append(int fd, const void* buf, size_t n);
int pmfs_ftruncate(int fd, off_t size);
int pmfs_fallocate(int fd, int mode, off_t offset, off_t length); /* 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE,
                                                                         COLLAPSE_RANGE, INSERT_RANGE */
off_t pmfs_seek(int fd, off_t offset, int whence); /* SEEK_DATA, SEEK_HOLE; there is no file position */
int pmfs_clone_range(int from, off_t from_offset, off_t n, int to, off_t to_offset); /* as FICLONERANGE; n 0: to EOF */
ssize_t pmfs_copy_file_range(int from, off_t from_offset, int to, off_t to_offset, size_t n);
int pmfs_fsync(int fd);
int pmfs_fstat(int fd, struct stat* st);
int pmfs_stat(pmfs_volume* v, const char* path, struct stat* st);
int pmfs_mkdir(pmfs_volume* v, const char* path, mode_t mode);
int pmfs_rmdir(pmfs_volume* v, const char* path);
int pmfs_unlink(pmfs_volume* v, const char* path);
int pmfs_rename(pmfs_volume* v, const char* from, const char* to);
int pmfs_rename2(pmfs_volume* v, const char* from, const char* to, unsigned flags); /* RENAME_NOREPLACE, _EXCHANGE */
int pmfs_mknod(pmfs_volume* v, const char* path, mode_t mode); /* EPERM: anything but a regular file */
int pmfs_link(pmfs_volume* v, const char* from, const char* to);
int pmfs_symlink(pmfs_volume* v, const char* target, const char* path);
ssize_t pmfs_readlink(pmfs_volume* v, const char* path, char* buf, size_t n); /* no NUL; cut to n bytes */
int pmfs_lstat(pmfs_volume* v, const char* path, struct stat* st);

/* Attributes. uid and gid: -1 leaves them. Times as utimensat: {access, modification}, UTIME_NOW, UTIME_OMIT, NULL. */
int pmfs_chmod(pmfs_volume* v, const char* path, mode_t mode);
int pmfs_fchmod(int fd, mode_t mode);
int pmfs_chown(pmfs_volume* v, const char* path, uid_t uid, gid_t gid);
int pmfs_lchown(pmfs_volume* v, const char* path, uid_t uid, gid_t gid);
int pmfs_fchown(int fd, uid_t uid, gid_t gid);
int pmfs_utimens(pmfs_volume* v, const char* path, const struct timespec times[2]);
int pmfs_lutimens(pmfs_volume* v, const char* path, const struct timespec times[2]);
int pmfs_futimens(int fd, const struct timespec times[2]);

/* Extended attributes, as the system calls of these names: n = 0 asks for the size, ERANGE: the buffer is too small. */
int pmfs_setxattr(pmfs_volume* v, const char* path, const char* name, const void* value, size_t n, int flags);
int pmfs_lsetxattr(pmfs_volume* v, const char* path, const char* name, const void* value, size_t n, int flags);
int pmfs_fsetxattr(int fd, const char* name, const void* value, size_t n, int flags);
ssize_t pmfs_getxattr(pmfs_volume* v, const char* path, const char* name, void* value, size_t n);
ssize_t pmfs_lgetxattr(pmfs_volume* v, const char* path, const char* name, void* value, size_t n);
ssize_t pmfs_fgetxattr(int fd, const char* name, void* value, size_t n);
ssize_t pmfs_listxattr(pmfs_volume* v, const char* path, char* list, size_t n);
ssize_t pmfs_llistxattr(pmfs_volume* v, const char* path, char* list, size_t n);
ssize_t pmfs_flistxattr(int fd, char* list, size_t n);
int pmfs_removexattr(pmfs_volume* v, const char* path, const char* name);
int pmfs_lremovexattr(pmfs_volume* v, const char* path, const char* name);
int pmfs_fremovexattr(int fd, const char* name);

void pmfs_persist(const void* p, size_t bytes); /* no system call */
const char* pmfs_strerror(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
