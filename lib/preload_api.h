/* What libpmfs_preload.so asks of libpmfs.so beside pmfs.h. Not for anybody else: it may change with every version. */
#ifndef PMFS_PRELOAD_API_H
#define PMFS_PRELOAD_API_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Maps a file of the volume whose directory that is, as pmfs_open_inode, pmfs_mmap and pmfs_close. A connection to each volume is
 * made at its first use and kept. open_flags: O_RDONLY or O_RDWR. */
void* pmfs_preload_map(const char* volume, uint64_t ino, uint64_t generation, int open_flags, void* addr, size_t length,
                       int prot, int flags, off_t offset);
int pmfs_preload_mapped(const void* addr, size_t length); /* 1: some of the range is a mapping of ours */
/* As pmfs_munmap, but the addresses stay reserved for what the caller maps there, or unmaps, next. */
int pmfs_preload_release(void* addr, size_t length);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
