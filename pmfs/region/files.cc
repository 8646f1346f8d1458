#include "pmfs/region/files.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/sys.h"

namespace pmfs {

namespace {
constexpr uint64_t kLeastRoom = uint64_t{64} << 30 >> kBlockShift, kTimesAsLarge = 16;
}

uint64_t room_for(uint64_t blocks) { return std::max(kLeastRoom, blocks * kTimesAsLarge); }

UniqueFd open_region_file(const std::string& path, uint64_t blocks, const RegionOptions& o) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  struct stat st;
  if (!fd) fail(errno, "region {}: can't open: {}", path, std::strerror(errno));
  if (::fstat(fd.get(), &st) != 0) fail(errno, "region {}: can't stat: {}", path, std::strerror(errno));
  if (!S_ISREG(st.st_mode)) fail(ENOTSUP, "region {}: not a regular file", path);
  // A lock of the open file, kept until it is closed.
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
    fail(EBUSY, "region {}: in use by another manager; stop that one first", path);
  uint64_t bytes = 0;
  const uint64_t expected = blocks << kBlockShift;
  if (int err = sys().file_bytes(fd.get(), &bytes); err != 0)
    fail(err, "region {}: can't stat: {}", path, std::strerror(err));
  if (bytes > expected && bytes <= o.growing_to << kBlockShift) {
    if (int err = sys().ftruncate(fd.get(), expected); err != 0)
      fail(err, "region {}: can't be cut back to {} bytes, what it had before it grew: {}", path, expected, std::strerror(err));
    bytes = expected;
  }
  if (bytes != expected)
    fail(EUCLEAN, "region {}: is {} bytes, the superblock says {}; it was truncated or belongs to another volume", path, bytes,
         expected);
  return fd;
}

void extend_file(int fd, const std::string& path, uint64_t from, uint64_t to, bool write, const RegionProgress& progress) {
  const auto check = [&](int err) {
    if (err != 0)
      fail(err == ENOMEM ? ENOSPC : err, "region {}: can't grow to {} MiB: {}; free space there, or ask for less", path, to >> 8,
           std::strerror(err));
  };
  int err;
  do err = sys().allocate(fd, from << kBlockShift, (to - from) << kBlockShift);
  while (err == EINTR);
  check(err);
  if (!write) return;
  // Allocated blocks are "unwritten" until then: the first store to each would wait for the file system's journal.
  const std::vector<std::byte> zeros(kHugeBlocks << kBlockShift);
  for (uint64_t at = from; at < to;) {
    const uint64_t n = std::min(to - at, kHugeBlocks);
    err = sys().write_at(fd, zeros.data(), n << kBlockShift, at << kBlockShift);
    // Bad memory: block by block; those that are bad stay as they are, and nobody is given them.
    for (uint64_t k = 0; err == EIO && k < n; ++k)
      if (int e = sys().write_at(fd, zeros.data(), kBlockSize, (at + k) << kBlockShift); e != 0 && e != EIO) check(e);
    if (err != EIO) check(err);
    at += n;
    if (progress) progress(at - from, to - from);
  }
  if (::fsync(fd) != 0) check(errno);
}

}  // namespace pmfs
