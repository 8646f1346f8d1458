// shmem region: a file on tmpfs. Gated. Punching a hole in it is the zap: the kernel takes the PTEs of every
// process away, whatever state it is in, and drops the page, so a zapped block reads as zero by construction.
//
// What the manager knows of a free block is kept in one byte per block (0.02 % of the region):
//   kInitial   as the options say: zero but perhaps not present, or unknown
//   kUnknown   may hold anything: zapped before it is handed out
//   kAbsent    zapped, not present
//   kZeroed    present and zero
//   kOwned     handed out: contents belong to somebody
//   kCanaried  filled with kCanary after the zap
// A byte is written only by who has the block reserved (or has just zapped it), so it needs no lock.

#include "pmfs/region/shmem_region.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/sys.h"
#include "pmfs/region/files.h"

namespace pmfs {

namespace {

constexpr uint64_t kPopulateChunk = kHugeBlocks;  // bounds one madvise

}  // namespace

void create_shmem_region(const std::filesystem::path& path, uint64_t blocks, bool reserve) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (fd.get() < 0) fail(errno, "region {}: can't create: {}", path.string(), std::strerror(errno));
  auto give_up = [&](int err, const char* what) {
    ::unlink(path.c_str());
    fail(err, "region {}: can't {} {} MiB: {}; choose a smaller --size or free space there", path.string(), what,
         blocks >> 8, std::strerror(err));
  };
  if (::ftruncate(fd.get(), static_cast<off_t>(blocks << kBlockShift)) != 0) give_up(errno, "size it to");
  if (!reserve) return;
  size_t bytes = blocks << kBlockShift;
  void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (p == MAP_FAILED) give_up(errno, "map");
  int err = 0;
  for (size_t off = 0; off < bytes && err == 0; off += kPopulateChunk << kBlockShift)
    err = sys().populate_write(static_cast<char*>(p) + off, std::min(bytes - off, kPopulateChunk << kBlockShift));
  ::munmap(p, bytes);
  if (err != 0) give_up(err == EFAULT ? ENOSPC : err, "reserve");
}

std::unique_ptr<Region> open_shmem_region(const std::filesystem::path& path, uint64_t blocks, const RegionOptions& o) {
  UniqueFd fd = open_region_file(path, blocks, o);
  struct stat st;
  struct statfs fs;
  if (::fstat(fd.get(), &st) != 0 || ::fstatfs(fd.get(), &fs) != 0)
    fail(errno, "region {}: can't stat: {}", path.string(), std::strerror(errno));
  if (fs.f_type != TMPFS_MAGIC) fail(EUCLEAN, "region {}: is not on tmpfs any more, where the volume was made", path.string());
  bool may_be_huge = static_cast<uint64_t>(st.st_blksize) > kBlockSize;  // shmem_getattr() says so
  return std::make_unique<ShmemRegion>(RegionKind::kShmem, std::move(fd), path, blocks, may_be_huge, o);
}

std::unique_ptr<Region> open_hugetlb_region(const std::filesystem::path& path, uint64_t blocks, const RegionOptions& o) {
  std::error_code ec;
  const std::filesystem::path file = std::filesystem::canonical(path, ec);  // the volume has a link to it
  if (ec) fail(ec.value(), "region {}: its file on hugetlbfs is gone: {}; a volume there does not outlive the mount", path.string(), ec.message());
  UniqueFd fd = open_region_file(file, blocks, o);
  struct statfs fs;
  if (::fstatfs(fd.get(), &fs) != 0) fail(errno, "region {}: can't stat: {}", file.string(), std::strerror(errno));
  if (static_cast<unsigned long>(fs.f_type) != HUGETLBFS_MAGIC || static_cast<uint64_t>(fs.f_bsize) != o.unit.bytes())
    fail(EUCLEAN, "region {}: is not on hugetlbfs with pages of {} bytes any more, where the volume was made", file.string(), o.unit.bytes());
  return std::make_unique<ShmemRegion>(RegionKind::kHugetlb, std::move(fd), file, blocks, false, o);
}

ShmemRegion::ShmemRegion(RegionKind kind, UniqueFd fd, const std::filesystem::path& path, uint64_t blocks, bool may_be_huge,
                         const RegionOptions& o)
    // A mapping makes a file on hugetlbfs as long as it is itself: there is no room to grow into.
    : kind_(kind), fd_(std::move(fd)), path_(path.string()), blocks_(blocks), room_(kind == RegionKind::kHugetlb ? blocks : room_for(blocks)), may_be_huge_(may_be_huge), options_(o),
      // libpmem2 would ask for msync on tmpfs; the region is volatile anyway, so cache lines are the unit.
      pmem2_(fd_.get(), path_, kind == RegionKind::kHugetlb ? o.unit.bytes() : kBlockSize, Pmem2::Need::kForced) {
  // Mapped beyond the file's end, which nobody touches; when the file grows the pages are there. libpmem2 has no such
  // mapping, and its reservations leave 1 GiB of addresses behind (1.12); its functions go by the CPU and the granularity.
  void* p = ::mmap(nullptr, room_ << kBlockShift, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd_.get(), 0);
  if (p == MAP_FAILED) fail(errno, "region {}: can't map it: {}", path_, std::strerror(errno));
  base_ = static_cast<std::byte*>(p);
  // Huge folios would make a punch split them; the tmpfs mount may say so, the region must not.
  ::madvise(base_, room_ << kBlockShift, MADV_NOHUGEPAGE);
  void* s = ::mmap(nullptr, room_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (s == MAP_FAILED) {
    ::munmap(base_, room_ << kBlockShift);
    fail(ENOMEM, "region {}: no memory for the block states", path_);
  }
  state_ = static_cast<std::atomic<uint8_t>*>(s);  // zero pages: kInitial
}

ShmemRegion::~ShmemRegion() {
  ::munmap(state_, room_);
  ::munmap(base_, room_ << kBlockShift);
}

void ShmemRegion::grow(uint64_t blocks, bool reserve) {
  const uint64_t old = blocks_.load();
  if (hugetlb())
    fail(EFBIG, "region {}: on hugetlbfs a region can't grow; make a larger volume and copy the files", path_);
  if (blocks > room_)
    fail(EFBIG, "region {}: can't grow to {} MiB while it is in use, {} MiB is the most; stop the manager and grow it then",
         path_, blocks >> 8, room_ >> 8);
  int err;
  do {
    err = reserve ? sys().allocate(fd_.get(), old << kBlockShift, (blocks - old) << kBlockShift)
                  : sys().ftruncate(fd_.get(), blocks << kBlockShift);
  } while (err == EINTR);
  if (err != 0)
    fail(err == ENOMEM ? ENOSPC : err, "region {}: can't grow to {} MiB: {}; free space on the tmpfs, or ask for less",
         path_, blocks >> 8, std::strerror(err));
  blocks_.store(blocks, std::memory_order_release);
}

void ShmemRegion::cut_back(uint64_t blocks) {
  blocks_.store(blocks, std::memory_order_release);
  if (int err = sys().ftruncate(fd_.get(), blocks << kBlockShift); err != 0)
    fail(err, "region {}: can't be cut back to {} MiB: {}", path_, blocks >> 8, std::strerror(err));
}

std::byte* ShmemRegion::address(Pfn pfn) const { return base_ + pfn.bytes(); }

ShmemRegion::State ShmemRegion::state(Pfn p) const {
  auto s = static_cast<State>(state_[p.v].load(std::memory_order_relaxed));
  if (s == kInitial) return options_.free_blocks_are_zero ? kAbsent : kUnknown;
  return s;
}

void ShmemRegion::set_state(Extent e, State s) {
  for (uint64_t i = 0; i < e.count; ++i) state_[e.first.v + i].store(s, std::memory_order_relaxed);
}

void ShmemRegion::populate(Extent e) {
  for (uint64_t done = 0; done < e.count;) {
    uint64_t n = std::min(e.count - done, kPopulateChunk);
    int err = sys().populate_write(address(e.first + done), n << kBlockShift);
    if (err == EINTR || err == EAGAIN) continue;
    // The kernel says EFAULT for what would have been a SIGBUS: the tmpfs has no page left.
    if (err == EFAULT || err == ENOMEM) full();
    if (err != 0) fail(err, "region {}: populate of blocks {}+{}: {}", path_, e.first.v, e.count, std::strerror(err));
    done += n;
  }
}

void ShmemRegion::full() const {
  if (hugetlb()) fail(ENOSPC, "region {}: no huge page is free; raise /proc/sys/vm/nr_hugepages (2 MiB each)", path_);
  fail(ENOSPC, "region {}: the tmpfs under it is full; free space there", path_);
}

// Through the file, not the mapping: a block that the manager never touched has no PTE of its own, and the zap is
// half as long without it.
void ShmemRegion::fill(Extent e, const FillPage& page) {
  if (hugetlb()) {  // no write(2): the kernel zeroes what it allocates; anything else is stored, and zeros where nothing was punched
    int err;
    do err = sys().allocate(fd_.get(), e.first.bytes(), e.count << kBlockShift);
    while (err == EINTR);
    if (err != 0) full();
    if (page[0] == 0 && gated()) return drain();
    for (uint64_t done = 0; done < e.count; done += kFillBlocks)
      memcpy_nodrain(address(e.first + done), page.data(), std::min(e.count - done, kFillBlocks) << kBlockShift);
    return drain();
  }
  if (may_be_huge_) populate(e);  // page by page, as the mapping asks; the writes then find them
  for (uint64_t done = 0; done < e.count;) {
    uint64_t n = std::min(e.count - done, kFillBlocks);
    int err = sys().write_at(fd_.get(), page.data(), n << kBlockShift, (e.first + done).bytes());
    if (err == ENOSPC || err == ENOMEM) full();
    if (err != 0) fail(err, "region {}: write of blocks {}+{}: {}", path_, e.first.v, e.count, std::strerror(err));
    done += n;
  }
  drain();
}

void ShmemRegion::punch(Extent e) {
  if (!gated()) return;  // kAbsent then means: to be filled, whatever is there
  int err;
  do err = sys().punch_hole(fd_.get(), e.first.bytes(), e.count << kBlockShift);
  while (err == EINTR);
  if (err != 0) fail(EIO, "region {}: zap of blocks {}+{}: {}", path_, e.first.v, e.count, std::strerror(err));
}

void ShmemRegion::check_canary(Pfn p) {
  std::array<uint64_t, kBlockSize / 8> words;
  ssize_t n = ::pread(fd_.get(), words.data(), kBlockSize, static_cast<off_t>(p.bytes()));
  for (uint64_t w : words)
    if (n != kBlockSize || w != kCanary) {
      canary_errors_.fetch_add(1, std::memory_order_relaxed);
      bad_canary_.store(p.v, std::memory_order_relaxed);
      return;
    }
}

void ShmemRegion::make_zero(Extent e) {
  static const FillPage kZeros{};
  for (uint64_t i = 0; i < e.count;) {
    State s = state(e.first + i);
    uint64_t n = 1;
    while (i + n < e.count && state(e.first + (i + n)) == s) ++n;
    Extent run{e.first + i, n};
    switch (s) {
      case kCanaried:
        for (uint64_t k = 0; k < n; ++k) check_canary(run.first + k);
        [[fallthrough]];
      case kUnknown:
      case kOwned:
      case kInitial:
        punch(run);
        set_state(run, kAbsent);
        [[fallthrough]];
      case kAbsent:
        fill(run, kZeros);
        break;
      case kZeroed:
        break;
    }
    set_state(run, kZeroed);
    i += n;
  }
}

void ShmemRegion::hand_out(Extent e) { set_state(e, kOwned); }

void ShmemRegion::zap(Extent e) {
  punch(e);
  set_state(e, kAbsent);
  if (!options_.canary) return;
  static const FillPage kCanaries = [] {
    FillPage p;
    p.fill(kCanary);
    return p;
  }();
  try {
    fill(e, kCanaries);
  } catch (const Error&) {
    set_state(e, kUnknown);  // no room for canaries; some may be there already
    return;
  }
  set_state(e, kCanaried);
}

void ShmemRegion::zap_free(Extent e) {
  punch(e);
  set_state(e, kAbsent);
}

bool ShmemRegion::wants_refill(Pfn p) const {
  State s = state(p);
  return s == kAbsent || s == kUnknown;
}

void ShmemRegion::flush(const void* p, size_t bytes) { pmem2_.flush(p, bytes); }
void ShmemRegion::drain() { pmem2_.drain(); }
void* ShmemRegion::memcpy_nodrain(void* dst, const void* src, size_t bytes) { return pmem2_.memcpy_nodrain(dst, src, bytes); }
void* ShmemRegion::memset_nodrain(void* dst, int c, size_t bytes) { return pmem2_.memset_nodrain(dst, c, bytes); }

}  // namespace pmfs
