// FUSE: PMFS_IOC_FILE (include/pmfs/ioctl.h): from a kernel fd to what a native client opens the file by.
#include "pmfs/ioctl.h"

#include <cstring>
#include <filesystem>

#include "pmfs/fuse/ops.h"

namespace pmfs::fuse {

namespace {

static_assert(sizeof(pmfs_ioc_file) == 16 + PMFS_IOC_MAX_PATH && sizeof(pmfs_ioc_file) < (1 << _IOC_SIZEBITS));

void ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void*, fuse_file_info*, unsigned, const void*, size_t,
           size_t out_bytes) {
  answer(req, [&](Mount& m) {
    if (cmd != PMFS_IOC_FILE) fail(ENOTTY, "inode {}: ioctl {:#x} is not known", ino, cmd);
    pmfs_ioc_file f{};
    if (out_bytes < sizeof f) fail(EINVAL, "inode {}: a buffer of {} bytes for an ioctl's answer", ino, out_bytes);
    const meta::InodeAttr a = m.volume().getattr(*m.nodes().file(Ino{ino}));
    const std::string dir = std::filesystem::absolute(m.volume().dir()).lexically_normal();
    if (dir.size() >= sizeof f.volume) fail(ENAMETOOLONG, "the volume's path has {} bytes", dir.size());
    f.ino = ino;
    f.generation = a.generation;
    std::memcpy(f.volume, dir.data(), dir.size());
    fuse_reply_ioctl(req, 0, &f, sizeof f);
  });
}

}  // namespace

void add_ioctl_op(fuse_lowlevel_ops& ops) { ops.ioctl = ioctl; }

}  // namespace pmfs::fuse
