#include "pmfs/fsck/pool_view.h"

#include <algorithm>
#include <cerrno>
#include <sstream>

#include <fcntl.h>
#include <libpmemobj.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/unique_fd.h"
#include "pmfs/base/guarded.h"
#include "pmfs/meta/media.h"
#include "pmfs/meta/superblock.h"

namespace pmfs::fsck {
namespace {

constexpr uint64_t kMagicOff = offsetof(meta::SuperblockMedia, magic);
constexpr size_t kCopyChunk = 64 << 10;

// Copies a pool, holes included, into a file of the same size.
void copy_to(int fd, const std::byte* from, uint64_t bytes) {
  static const std::vector<std::byte> zeros(kCopyChunk);
  for (uint64_t off = 0; off < bytes; off += kCopyChunk) {
    size_t n = std::min<uint64_t>(kCopyChunk, bytes - off);
    if (std::memcmp(from + off, zeros.data(), n) == 0) continue;
    if (::pwrite(fd, from + off, n, static_cast<off_t>(off)) != static_cast<ssize_t>(n))
      fail(ENOSPC, "no memory for a copy of the pool");
  }
}

// In the child: opens, copies, lists what is allocated, and lets the store check itself.
std::string open_and_copy(const std::filesystem::path& path, int copy) {
  int on = 1;
  pmemobj_ctl_set(nullptr, "copy_on_write.at_open", &on);
  std::ostringstream out;
  {
    meta::Media m = meta::open_pool(path);
    auto* base = reinterpret_cast<const std::byte*>(m.root) - m.pop.pptr(m.root).off;
    copy_to(copy, base, std::filesystem::file_size(path));
    out << m.pop.pptr(m.root).off << '\n';
    for (PMEMoid o = pmemobj_first(m.pop.handle()); !OID_IS_NULL(o); o = pmemobj_next(o))
      out << o.off << ' ' << pmemobj_alloc_usable_size(o) << '\n';
    out << "check\n";
  }
  try {
    for (const std::string& f : meta::Store::open(path)->check()) out << f << '\n';
  } catch (const Error& e) {
    out << e.message() << '\n';
  }
  return out.str();
}

}  // namespace

PoolView::PoolView(const std::filesystem::path& path, unsigned child_seconds) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat st;
  if (!fd || ::fstat(fd.get(), &st) != 0)
    fail(errno, "{}: can't open the metadata pool: {}", path.string(), std::strerror(errno));
  if (!S_ISREG(st.st_mode) || st.st_size == 0)
    fail(EUCLEAN, "{}: not a metadata pool: no file, or empty", path.string());
  bytes_ = static_cast<uint64_t>(st.st_size);
  recover_in_child(path, child_seconds);
  if (!opened()) {
    if (::flock(fd.get(), LOCK_SH | LOCK_NB) != 0)
      fail(EBUSY, "{}: the volume is in use; stop its manager first", path.string());
    void* p = ::mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (p == MAP_FAILED) fail(errno, "{}: can't be mapped: {}", path.string(), std::strerror(errno));
    base_ = static_cast<std::byte*>(p);
    if (!find_root()) {
      ::munmap(base_, bytes_);
      fail(EUCLEAN, "{}: there is no superblock in it ({}); nothing can be saved from it", path.string(), problem_);
    }
  }
}

PoolView::~PoolView() { ::munmap(base_, bytes_); }

void PoolView::recover_in_child(const std::filesystem::path& path, unsigned seconds) {
  UniqueFd copy(::memfd_create("pmfs-fsck", MFD_CLOEXEC));
  if (!copy || ::ftruncate(copy.get(), static_cast<off_t>(bytes_)) != 0)
    fail(ENOMEM, "no memory for a copy of the pool");
  // Of a processor: more than a sound pool of this size can need, whose objects are each visited a few times. libpmemobj
  // walks a damaged heap in circles.
  constexpr uint64_t kCpuSeconds = 1, kBytesPerSecond = 8 << 20;
  const auto cpu = static_cast<unsigned>(std::min<uint64_t>(seconds, kCpuSeconds + bytes_ / kBytesPerSecond));
  Guarded g = guarded(seconds, [&] { return open_and_copy(path, copy.get()); }, cpu);
  if (g.error == EBUSY || g.error == EACCES || g.error == EPERM) fail(g.error, "{}", g.problem);
  if (!g.problem.empty()) {
    problem_ = g.problem;
    return;
  }
  void* p = ::mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, copy.get(), 0);
  if (p == MAP_FAILED) fail(ENOMEM, "no memory for a copy of the pool");
  base_ = static_cast<std::byte*>(p);
  std::istringstream in(g.output);
  std::string line;
  std::getline(in, line);
  root_ = std::stoull(line);
  while (std::getline(in, line) && line != "check") {
    size_t space = line.find(' ');
    objects_[std::stoull(line.substr(0, space))] = std::stoull(line.substr(space + 1));
  }
  while (std::getline(in, line)) check_.push_back(line);
}

// Without libpmemobj the root object is where a superblock is: one with the right sum, else one with the magic.
bool PoolView::find_root() {
  uint64_t weak = 0;
  for (uint64_t off = kCopyChunk / 16; off + sizeof(meta::Root) <= bytes_; off += 16) {
    auto* sb = reinterpret_cast<const meta::SuperblockMedia*>(base_ + off);
    uint64_t magic;
    std::memcpy(&magic, base_ + off + kMagicOff, sizeof magic);
    if (magic != meta::kMagic) continue;
    if (meta::superblock_checksum(*sb) == sb->checksum) {
      root_ = off;
      return true;
    }
    if (weak == 0) weak = off;
  }
  root_ = weak;
  return weak != 0;
}

}  // namespace pmfs::fsck
