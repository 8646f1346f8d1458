#include "pmfs/fuse/mount.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "pmfs/fuse/ops.h"

namespace pmfs::fuse {

namespace {

static_assert(to_u64(kRootIno) == FUSE_ROOT_ID);

// What libfuse does not ask for by itself: set-id bits are ours to take away, and a directory's lookups need not wait for
// each other.
void init(void*, fuse_conn_info* c) { c->want |= c->capable & (FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_PARALLEL_DIROPS); }

const fuse_lowlevel_ops& operations() {
  static const fuse_lowlevel_ops ops = [] {
    fuse_lowlevel_ops o{};
    o.init = init;
    add_name_ops(o);
    add_directory_ops(o);
    add_attr_ops(o);
    add_data_ops(o);
    add_ioctl_op(o);
    return o;
  }();
  return ops;
}

// A manager that was killed leaves its mount behind: every call there says ENOTCONN.
void check_place(const std::string& dir) {
  struct stat st {};
  int err = ::stat(dir.c_str(), &st) == 0 ? 0 : errno;
  if (err == ENOTCONN && ::umount2(dir.c_str(), MNT_DETACH) == 0) err = ::stat(dir.c_str(), &st) == 0 ? 0 : errno;
  if (err == ENOTCONN) fail(EBUSY, "{}: a mount whose manager is gone is still there; fusermount3 -u {}", dir, dir);
  if (err != 0) fail(err, "{}: {}; a volume is mounted on a directory that is there", dir, std::strerror(err));
  if (!S_ISDIR(st.st_mode)) fail(ENOTDIR, "{}: is not a directory; a volume is mounted on one", dir);
}

// Every request and answer of the session; its userdata is the mount.
ssize_t write_answer(int fd, iovec* parts, int count, void* mount) {
  return static_cast<Mount*>(mount)->loop().write(fd, parts, count);
}
ssize_t read_request(int fd, void* buffer, size_t bytes, void* mount) {
  return static_cast<Mount*>(mount)->loop().read(fd, buffer, bytes);
}
constexpr fuse_custom_io kIo{write_answer, read_request, nullptr, nullptr};

struct Args {
  fuse_args a = FUSE_ARGS_INIT(0, nullptr);
  ~Args() { fuse_opt_free_args(&a); }
  void add(const std::string& s) {
    if (fuse_opt_add_arg(&a, s.c_str()) != 0) throw std::bad_alloc();
  }
};

}  // namespace

Mount::Mount(MountedVolume& volume, const MountOptions& o, std::function<void()> on_end)
    : volume_(volume), options_(parse(o)), nodes_(volume) {
  check_place(o.dir);
  Args args;
  args.add("pmfs");
  args.add("-o");
  args.add("default_permissions,subtype=pmfs,fsname=" + volume.dir().string());
  for (const std::string& option : options_.fuse) {
    args.add("-o");
    args.add(option);
  }
  session_ = fuse_session_new(&args.a, &operations(), sizeof operations(), this);
  if (session_ == nullptr) fail(EINVAL, "{}: libfuse does not take these mount options", o.dir);
  if (fuse_session_mount(session_, o.dir.c_str()) != 0) {
    const int err = errno != 0 ? errno : EIO;
    fuse_session_destroy(session_);
    fail(err, "{}: can't be mounted; without root that needs fusermount3 and read access to /dev/fuse", o.dir);
  }
  if (int err = fuse_session_custom_io(session_, &kIo, fuse_session_fd(session_))) {
    fuse_session_unmount(session_);
    fuse_session_destroy(session_);
    fail(-err, "{}: libfuse does not take its requests through us", o.dir);
  }
  volume_.leases().add(*this);
  loop_.start(session_, options_.threads, std::move(on_end));
}

// Negative offset: attributes only, so that no page's lock is taken. ENOENT: the kernel does not know it any more.
void Mount::forget_attributes(Ino ino) { fuse_lowlevel_notify_inval_inode(session_, to_u64(ino), -1, 0); }

void Mount::take_back() {
  for (const Ino ino : leased_.all()) forget_attributes(ino);
}

Mount::~Mount() {
  loop_.stop();
  volume_.leases().remove(*this);
  fuse_session_unmount(session_);  // not before: it closes the descriptor that the loop reads
  fuse_session_destroy(session_);
}

}  // namespace pmfs::fuse
