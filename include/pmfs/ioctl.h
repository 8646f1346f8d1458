/* What a program may ask of an open file on a FUSE mount of pmfs: which file of which volume it is, so that it can be opened
 * natively too (libpmfs_preload.so does). It gives no right: who may use the volume's socket is decided by the socket's mode,
 * and who may use it can reach all file data of the volume anyway.
 *
 *   struct pmfs_ioc_file f;
 *   ioctl(fd, PMFS_IOC_FILE, &f)     ENOTTY: not on pmfs (or another version of it); EISDIR, EINVAL: not a regular file
 */
#ifndef PMFS_IOCTL_H
#define PMFS_IOCTL_H

#include <stdint.h>
#include <sys/ioctl.h>

#define PMFS_IOC_MAX_PATH 4096

struct pmfs_ioc_file {
  uint64_t ino, generation;        /* name the file for as long as the volume exists */
  char volume[PMFS_IOC_MAX_PATH];  /* its directory as the manager sees it; absolute, NUL-terminated */
};

#define PMFS_IOC_FILE _IOR('P', 0x46, struct pmfs_ioc_file)

#endif
