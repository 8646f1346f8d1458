// FUSE: data. Every read and write is of the blocks themselves.
#include <fcntl.h>
#include <linux/falloc.h>

#include <vector>

#include "pmfs/fuse/ops.h"

namespace pmfs::fuse {

namespace {

// First without waiting behind another operation on the file, so that other requests need not wait too.
template <class F>
auto waiting_last(Mount& m, F&& f) {
  try {
    return f(Wait::kNoWait);
  } catch (const Error& e) {
    if (e.err() != EAGAIN) throw;
  }
  m.loop().will_block();
  return f(Wait::kBlock);
}

void flush(Mount& m, Inode& file) {
  waiting_last(m, [&](Wait wait) { m.volume().fsync(file, wait); });
}

// A write that had to stop behind a busy page waits for that one: who called write(2) expects all of it written.
size_t write_all(Mount& m, Inode& file, std::span<const std::byte> in, uint64_t offset, Wait wait) {
  const size_t n = m.volume().write(file, in, offset, wait);
  if (n == 0 || n == in.size() || wait == Wait::kBlock) return n;
  m.loop().will_block();
  return n + m.volume().write(file, in.subspan(n), offset + n, Wait::kBlock);
}

void open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  answer(req, [&](Mount& m) {
    const InodeRef file = m.nodes().file(Ino{ino});
    if ((fi->flags & O_TRUNC) && (fi->flags & O_ACCMODE) != O_RDONLY) {
      drop_privileges(req, m, Ino{ino});
      m.volume().truncate(*file, 0);
      m.volume().wait_idle(file->ino);
    }
    fi->direct_io = 1;
    fuse_reply_open(req, fi);
  });
}

void read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info*) {
  answer(req, [&](Mount& m) {
    thread_local std::vector<std::byte> buffer;
    if (buffer.size() < size) buffer.resize(size);
    const InodeRef file = m.nodes().file(Ino{ino});
    const size_t n = waiting_last(m, [&](Wait wait) {
      return m.volume().read(*file, {buffer.data(), size}, static_cast<uint64_t>(offset), wait);
    });
    fuse_reply_buf(req, reinterpret_cast<const char*>(buffer.data()), n);
  });
}

void write(fuse_req_t req, fuse_ino_t ino, const char* data, size_t size, off_t offset, fuse_file_info* fi) {
  answer(req, [&](Mount& m) {
    const InodeRef file = m.nodes().file(Ino{ino});
    const std::span<const std::byte> in(reinterpret_cast<const std::byte*>(data), size);
    drop_privileges(req, m, Ino{ino});
    const size_t n = waiting_last(m, [&](Wait wait) {
      if (!(fi->flags & O_APPEND)) return write_all(m, *file, in, static_cast<uint64_t>(offset), wait);
      m.volume().append(*file, in, wait);  // the kernel's idea of the end may be old
      return size;
    });
    if (fi->flags & (O_SYNC | O_DSYNC)) flush(m, *file);
    fuse_reply_write(req, n);
  });
}

void fsync(fuse_req_t req, fuse_ino_t ino, int, fuse_file_info*) {
  answer(req, [&](Mount& m) {
    flush(m, *m.nodes().file(Ino{ino}));
    fuse_reply_err(req, 0);
  });
}

void fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, fuse_file_info*) {
  answer(req, [&](Mount& m) {
    MountedVolume& v = m.volume();
    const InodeRef f = m.nodes().file(Ino{ino});
    const auto at = static_cast<uint64_t>(offset), n = static_cast<uint64_t>(length);
    const bool keep = mode & FALLOC_FL_KEEP_SIZE;
    drop_privileges(req, m, Ino{ino});
    switch (mode & ~FALLOC_FL_KEEP_SIZE) {
      case 0: v.preallocate(*f, at, n, keep); break;
      case FALLOC_FL_PUNCH_HOLE: v.punch(*f, at, n); break;
      case FALLOC_FL_ZERO_RANGE:
        if (!keep) v.preallocate(*f, at, n, false);
        v.zero_range(*f, at, n);
        break;
      default:  // the kernel sends no collapse and no insert range through FUSE
        fail(EOPNOTSUPP, "inode {}: fallocate mode {:#x} is not supported", ino, mode);
    }
    v.wait_idle(f->ino);
    fuse_reply_err(req, 0);
  });
}

void copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset, fuse_file_info*, fuse_ino_t to, off_t to_offset,
                     fuse_file_info*, size_t length, int) {
  answer(req, [&](Mount& m) {
    const InodeRef source = m.nodes().file(Ino{from}), target = m.nodes().file(Ino{to});
    drop_privileges(req, m, Ino{to});
    const uint64_t done = m.volume().copy_range(*source, static_cast<uint64_t>(from_offset), *target,
                                                static_cast<uint64_t>(to_offset), length);
    m.volume().wait_idle(target->ino);
    fuse_reply_write(req, done);
  });
}

void lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, fuse_file_info*) {
  answer(req, [&](Mount& m) {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) fail(EINVAL, "inode {}: seek {} is the kernel's", ino, whence);
    const auto what = whence == SEEK_DATA ? MountedVolume::Seek::kData : MountedVolume::Seek::kHole;
    fuse_reply_lseek(req, static_cast<off_t>(m.volume().seek(*m.nodes().file(Ino{ino}), static_cast<uint64_t>(offset), what)));
  });
}

}  // namespace

void add_data_ops(fuse_lowlevel_ops& ops) {
  ops.open = open;
  ops.read = read;
  ops.write = write;
  ops.fsync = fsync;
  ops.fallocate = fallocate;
  ops.copy_file_range = copy_file_range;
  ops.lseek = lseek;
}

}  // namespace pmfs::fuse
