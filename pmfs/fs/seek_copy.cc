// SEEK_DATA, SEEK_HOLE and copy_file_range.

#include <algorithm>
#include <vector>

#include "pmfs/base/error.h"
#include "pmfs/fs/volume.h"

namespace pmfs {

namespace {
constexpr size_t kCopyChunk = 1 << 20;          // bytes of DRAM
constexpr uint64_t kMostAtOnce = 256ull << 20;  // bytes of data: a copy holds a worker
}  // namespace

// Data: what has blocks and is written. A hole, an unwritten block and a volatile zero block are holes; so is what is
// behind the end. Source: lseek(2).
uint64_t MountedVolume::seek(Inode& i, uint64_t offset, Seek what) {
  const uint64_t size = i.i_size.load();
  if (offset >= size) fail(ENXIO, "inode {}: offset {} is not inside of its {} bytes", to_u64(i.ino), offset, size);
  const Pgoff end(blocks_for(size));
  for (Pgoff p = pgoff_of(offset); p < end;) {
    auto found = store_->extents(i.ino, {p, end}, 1);
    if (found.empty()) {
      if (what == Seek::kHole) return std::max(offset, p.bytes());
      break;
    }
    const FileExtent& e = found[0];
    if (what == Seek::kHole && (e.unwritten || e.pgoff > p)) return std::max(offset, p.bytes());
    if (what == Seek::kData && !e.unwritten) return std::max(offset, e.pgoff.bytes());
    p = e.end();
  }
  if (what == Seek::kData) fail(ENXIO, "inode {}: there is no data at or behind {}", to_u64(i.ino), offset);
  return size;
}

// Holes stay holes. Each chunk is read and written as read() and write() do it: nothing is held over both, so two
// copies that cross can't wait for each other.
uint64_t MountedVolume::copy_range(Inode& from, uint64_t from_offset, Inode& to, uint64_t to_offset, uint64_t length,
                                   Wait wait, uint64_t client) {
  const uint64_t size = from.i_size.load();
  if (from_offset >= size) return 0;
  length = std::min(length, size - from_offset);
  if (to_offset > kMaxFileBytes || length > kMaxFileBytes - to_offset)
    fail(EFBIG, "inode {}: offset {} + length {} is beyond the largest file", to_u64(to.ino), to_offset, length);
  if (&from == &to && from_offset < to_offset + length && to_offset < from_offset + length)
    fail(EINVAL, "inode {}: the ranges of a copy within a file overlap", to_u64(to.ino));
  std::vector<std::byte> buffer;
  uint64_t done = 0, moved = 0;
  while (done < length && moved < kMostAtOnce) {
    const uint64_t at = from_offset + done;
    uint64_t data, hole;
    try {
      data = std::min(seek(from, at, Seek::kData), from_offset + length);
      hole = data < from_offset + length ? std::min(seek(from, data, Seek::kHole), from_offset + length) : data;
    } catch (const Error& e) {
      if (e.err() != ENXIO) throw;
      data = hole = from_offset + length;  // a hole to the end, or a truncate was faster
    }
    if (data > at) {  // a hole: whatever the target has there goes
      const uint64_t n = data - at, target = to_offset + done, target_size = to.i_size.load();
      if (target < target_size) punch(to, target, std::min(n, target_size - target), wait, client);
      done += n;
      continue;
    }
    if (buffer.empty()) buffer.resize(std::min<uint64_t>(kCopyChunk, length));
    const size_t n = static_cast<size_t>(std::min<uint64_t>(buffer.size(), hole - at));
    const size_t got = read(from, std::span(buffer).first(n), at, wait);
    if (got == 0) break;
    const size_t put = write(to, std::span(buffer).first(got), to_offset + done, wait);
    done += put;
    moved += put;
    if (put < got) break;
  }
  // A hole at the end is part of the copy too.
  if (to_offset + done > to.i_size.load()) extend(to, to_offset + done, wait);
  return done;
}

}  // namespace pmfs
