#include "tools/crash/interpose.h"

#include <cerrno>
#include <cstdarg>
#include <cstring>

#include <dlfcn.h>
#include <libpmem.h>
#include <libpmem2.h>
#include <libpmemobj.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pmfs/base/sys.h"

namespace pmfs::crash {
namespace {

Mode g_mode = Mode::kPlain;
VolumeFiles g_files;
Recorder* g_recorder = nullptr;
unsigned g_snapshots = 0;
uint64_t g_data_bytes = 0;

struct DataMapping {  // the whole data file; private in kPrivate
  std::byte* base = nullptr;
  size_t bytes = 0;
  bool has(uint64_t offset, uint64_t n) const { return base != nullptr && offset + n <= bytes; }
} g_data;

bool recording() { return g_mode == Mode::kRecord && g_recorder != nullptr; }

bool area_of(int fd, Area* area) {
  struct stat st;
  if (fd < 0 || g_files.meta_inode == 0 || ::fstat(fd, &st) != 0 || st.st_dev != g_files.device) return false;
  if (st.st_ino != g_files.meta_inode && st.st_ino != g_files.data_inode) return false;
  *area = st.st_ino == g_files.meta_inode ? Area::kMeta : Area::kData;
  return true;
}

void flushed(const void* p, size_t bytes, Recorder::Via via = Recorder::Via::kFlush) {
  if (recording()) g_recorder->flush(p, bytes, via);
}
void fenced() {
  if (recording()) g_recorder->fence();
}
void copied(const void* p, size_t bytes, unsigned flags, unsigned noflush, unsigned nodrain) {
  if ((flags & noflush) != 0) return;
  flushed(p, bytes, Recorder::Via::kCopy);
  if ((flags & nodrain) == 0) fenced();
}

// The holes of a region, and the pages that the kernel is to make.
class RecordingSys final : public Sys {
  static bool pretending(int fd, Area* area) { return g_data_bytes != 0 && area_of(fd, area) && *area == Area::kData; }

 public:
  int punch_hole(int fd, uint64_t offset, uint64_t bytes) override {
    Area area;
    bool ours = area_of(fd, &area);
    if (ours && recording() && g_recorder->sabotage() == Sabotage::kZap) return 0;
    if (ours && g_mode == Mode::kPrivate) {
      if (!g_data.has(offset, bytes)) return EINVAL;
      std::memset(g_data.base + offset, 0, bytes);
      return 0;
    }
    if (ours && recording()) g_recorder->zeroing(area, offset, bytes);
    return Sys::punch_hole(fd, offset, bytes);
  }
  int file_bytes(int fd, uint64_t* bytes) override {
    Area area;
    int err = Sys::file_bytes(fd, bytes);
    if (err == 0 && pretending(fd, &area)) *bytes = g_data_bytes;
    return err;
  }
  int ftruncate(int fd, uint64_t bytes) override {
    Area area;
    if (!pretending(fd, &area)) return Sys::ftruncate(fd, bytes);
    uint64_t most = 0;
    Sys::file_bytes(fd, &most);
    if (bytes > most) return ENOSPC;
    if (recording()) g_recorder->data_bytes(bytes);
    g_data_bytes = bytes;
    return 0;
  }
  int allocate(int fd, uint64_t offset, uint64_t bytes) override {
    Area area;
    return pretending(fd, &area) ? ftruncate(fd, offset + bytes) : Sys::allocate(fd, offset, bytes);
  }
  int populate_write(void* p, size_t bytes) override {
    if (recording()) g_recorder->kernel_will_store(p, bytes);
    return Sys::populate_write(p, bytes);
  }
  // As a copy into the mapping that is flushed; the region fences it.
  int write_at(int fd, const void* p, size_t bytes, uint64_t offset) override {
    Area area;
    if (g_mode == Mode::kPlain || !area_of(fd, &area)) return Sys::write_at(fd, p, bytes, offset);
    if (area != Area::kData || !g_data.has(offset, bytes)) return EINVAL;
    std::byte* at = g_data.base + offset;
    if (g_mode == Mode::kPrivate) {
      std::memcpy(at, p, bytes);
      return 0;
    }
    if (recording() && g_recorder->sabotage() == Sabotage::kZap) return 0;
    if (recording()) g_recorder->kernel_will_store(at, bytes);
    int err = Sys::write_at(fd, p, bytes, offset);
    flushed(at, bytes);
    return err;
  }
};

}  // namespace

void interpose(Mode mode, const VolumeFiles& files, Recorder* recorder) {
  static RecordingSys seam;
  set_sys(&seam);
  // libpmemobj's own way to map a pool privately.
  int cow = mode == Mode::kPrivate ? 1 : 0;
  pmemobj_ctl_set(nullptr, "copy_on_write.at_open", &cow);
  g_mode = mode;
  g_files = files;
  g_recorder = recorder;
  g_snapshots = 0;
}

void pretend_data_bytes(uint64_t bytes) { g_data_bytes = bytes; }

VolumeFiles files_of(const char* meta_path, const char* data_path) {
  struct stat meta {}, data {};
  if (::stat(meta_path, &meta) != 0 || ::stat(data_path, &data) != 0) return {};
  return {meta.st_dev, meta.st_ino, data.st_ino};
}

namespace {

void* map_volume_file(void* addr, size_t bytes, int prot, int flags, int fd, off_t offset) {
  auto raw = [&](int f) {
    return reinterpret_cast<void*>(::syscall(SYS_mmap, addr, bytes, prot, f, fd, offset));
  };
  Area area;
  if (g_mode == Mode::kPlain || (prot & PROT_WRITE) == 0 || !area_of(fd, &area)) return raw(flags);
  struct stat st;
  bool whole = offset == 0 && ::fstat(fd, &st) == 0 && bytes >= static_cast<size_t>(st.st_size);
  if (g_mode == Mode::kPrivate && (flags & MAP_SHARED) != 0) {
    flags = (flags & ~(MAP_SHARED | MAP_SHARED_VALIDATE | MAP_SYNC)) | MAP_PRIVATE | MAP_NORESERVE;
  }
  const bool shared = (flags & MAP_SHARED) != 0;
  void* p = raw(flags);
  if (p == MAP_FAILED || !whole) return p;
  if (area == Area::kData) g_data = {static_cast<std::byte*>(p), bytes};
  if (recording() && shared) g_recorder->add_area(area, static_cast<std::byte*>(p), static_cast<size_t>(st.st_size));
  return p;
}

}  // namespace
}  // namespace pmfs::crash

// --- what the libraries call instead of their own functions

using namespace pmfs::crash;

extern "C" {

__attribute__((visibility("default"))) void* mmap(void* addr, size_t bytes, int prot, int flags, int fd, off_t offset) noexcept {
  return map_volume_file(addr, bytes, prot, flags, fd, offset);
}
__attribute__((visibility("default"))) void* mmap64(void* addr, size_t bytes, int prot, int flags, int fd, off_t offset) noexcept {
  return map_volume_file(addr, bytes, prot, flags, fd, offset);
}

void pmem_flush(const void* p, size_t bytes) { flushed(p, bytes); }
void pmem_drain(void) { fenced(); }
void pmem_persist(const void* p, size_t bytes) {
  flushed(p, bytes);
  fenced();
}
int pmem_msync(const void* p, size_t bytes) {
  pmem_persist(p, bytes);
  return 0;
}
void pmem_deep_flush(const void* p, size_t bytes) { flushed(p, bytes); }
void* pmem_memmove(void* dst, const void* src, size_t bytes, unsigned flags) {
  std::memmove(dst, src, bytes);
  copied(dst, bytes, flags, PMEM_F_MEM_NOFLUSH, PMEM_F_MEM_NODRAIN | PMEM_F_MEM_NOFLUSH);
  return dst;
}
void* pmem_memcpy(void* dst, const void* src, size_t bytes, unsigned flags) {
  return pmem_memmove(dst, src, bytes, flags);
}
void* pmem_memset(void* dst, int c, size_t bytes, unsigned flags) {
  std::memset(dst, c, bytes);
  copied(dst, bytes, flags, PMEM_F_MEM_NOFLUSH, PMEM_F_MEM_NODRAIN | PMEM_F_MEM_NOFLUSH);
  return dst;
}

static void region_flush(const void* p, size_t bytes) { flushed(p, bytes); }
static void region_drain(void) { fenced(); }
static void region_persist(const void* p, size_t bytes) { pmem_persist(p, bytes); }
static void* region_memmove(void* dst, const void* src, size_t bytes, unsigned flags) {
  std::memmove(dst, src, bytes);
  copied(dst, bytes, flags, PMEM2_F_MEM_NOFLUSH, PMEM2_F_MEM_NODRAIN | PMEM2_F_MEM_NOFLUSH);
  return dst;
}
static void* region_memset(void* dst, int c, size_t bytes, unsigned flags) {
  std::memset(dst, c, bytes);
  copied(dst, bytes, flags, PMEM2_F_MEM_NOFLUSH, PMEM2_F_MEM_NODRAIN | PMEM2_F_MEM_NOFLUSH);
  return dst;
}
pmem2_flush_fn pmem2_get_flush_fn(struct pmem2_map*) { return region_flush; }
pmem2_drain_fn pmem2_get_drain_fn(struct pmem2_map*) { return region_drain; }
pmem2_persist_fn pmem2_get_persist_fn(struct pmem2_map*) { return region_persist; }
pmem2_memmove_fn pmem2_get_memmove_fn(struct pmem2_map*) { return region_memmove; }
pmem2_memcpy_fn pmem2_get_memcpy_fn(struct pmem2_map*) { return region_memmove; }
pmem2_memset_fn pmem2_get_memset_fn(struct pmem2_map*) { return region_memset; }

// The undo snapshots of a transaction: under kSnapshot every seventh is forgotten.
int pmemobj_tx_xadd_range_direct(const void* p, size_t bytes, uint64_t flags) {
  using Fn = int (*)(const void*, size_t, uint64_t);
  static Fn real = reinterpret_cast<Fn>(::dlsym(RTLD_NEXT, "pmemobj_tx_xadd_range_direct"));
  if (recording() && g_recorder->sabotage() == Sabotage::kSnapshot && ++g_snapshots % 7 == 0) return 0;
  return real(p, bytes, flags);
}

// The same of the short log (pmfs/meta/short_log.h), which alone copies by this function.
void* pmemobj_memcpy(PMEMobjpool* pop, void* to, const void* from, size_t bytes, unsigned flags) {
  using Fn = void* (*)(PMEMobjpool*, void*, const void*, size_t, unsigned);
  static Fn real = reinterpret_cast<Fn>(::dlsym(RTLD_NEXT, "pmemobj_memcpy"));
  if (recording() && g_recorder->sabotage() == Sabotage::kSnapshot && ++g_snapshots % 7 == 0) return to;
  return real(pop, to, from, bytes, flags);
}

// libpmemobj asks libndctl for bad blocks at every open: three milliseconds of reading configuration files, on a
// tmpfs in vain.
struct ndctl_ctx;
struct ndctl_bus;
int ndctl_new(ndctl_ctx** ctx) {
  static char nothing;
  *ctx = reinterpret_cast<ndctl_ctx*>(&nothing);
  return 0;
}
ndctl_ctx* ndctl_unref(ndctl_ctx*) { return nullptr; }
ndctl_bus* ndctl_bus_get_first(ndctl_ctx*) { return nullptr; }

}  // extern "C"
