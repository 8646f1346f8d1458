#include "tools/torture/control_block.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "pmfs/base/error.h"

namespace torture {

const char* op_name(OpKind op) {
  static constexpr const char* kNames[] = {"none",  "load",   "store",    "punch",       "truncate", "zero_range", "read",
                                           "write", "append", "recreate", "rename_over", "remap",    "fork",       "open",
                                           "pipe"};
  static_assert(std::size(kNames) == static_cast<size_t>(OpKind::kCount));
  return kNames[static_cast<size_t>(op)];
}

ControlBlock* create_control_block(const Config& config, int* fd) {
  *fd = memfd_create("pmfs-torture", MFD_CLOEXEC);
  size_t bytes = ControlBlock::bytes(config.files, config.file_pages);
  if (*fd < 0 || ftruncate(*fd, static_cast<off_t>(bytes)) != 0) {
    pmfs::fail(errno, "control block of {} bytes: {}", bytes, std::strerror(errno));
  }
  ControlBlock* cb = map_control_block(*fd);
  cb->config = config;  // the rest is zero, which is the initial value of every field
  cb->epoch = 1;
  return cb;
}

ControlBlock* map_control_block(int fd) {
  struct stat st{};
  if (fstat(fd, &st) != 0) pmfs::fail(errno, "control block: {}", std::strerror(errno));
  void* p = mmap(nullptr, static_cast<size_t>(st.st_size), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) pmfs::fail(errno, "control block: {}", std::strerror(errno));
  return static_cast<ControlBlock*>(p);
}

uint64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

std::string file_name(const Config& c, unsigned file, uint32_t name) {
  return fmt::format("{}/f{}.{}", c.prefix, file, name);
}

bool bury(ControlBlock* cb, unsigned client) {
  ClientSlot& c = cb->clients[client];
  uint32_t area = c.api_area.load();
  if (area != 0) {
    // What the dead client asked for may still be carried out: from now on only zeros or stamps of the right place
    // are demanded there, and the file is replaced soon. Set before in_flight is cleared.
    cb->areas[area - 1].tainted = 1;
    cb->files[(area - 1) / kAreasPerFile].retire = 1;
  }
  for (unsigned f = 0; f < cb->config.files; ++f) {
    uint32_t owner = client + 1;
    if (cb->files[f].owner.compare_exchange_strong(owner, 0)) cb->files[f].retire = 1;
  }
  for (MapEntry& m : c.maps) {
    m.pages = 0;
    m.seq = 0;
  }
  if (c.in_flight.seq.load() % 2 != 0) c.in_flight.seq.fetch_add(1);
  for (auto& pin : c.pins) pin = 0;
  c.api_area = 0;
  c.pid = 0;
  return area != 0;
}

void report_violation(ControlBlock* cb, unsigned client, const char* kind, const std::string& text, unsigned file,
                      uint32_t incarnation, uint64_t page, uint64_t pfn, uint64_t ino) {
  uint32_t n = cb->violation_count.fetch_add(1);
  if (n >= kMaxViolations) return;
  Violation& v = cb->violations[n];
  v.client = client;
  v.file = file;
  v.incarnation = incarnation;
  v.page = page;
  v.pfn = pfn;
  v.ino = ino;
  v.at_ns = now_ns();
  std::strncpy(v.kind, kind, sizeof v.kind - 1);
  std::strncpy(v.text, text.c_str(), sizeof v.text - 1);
  v.state.store(2, std::memory_order_release);
}

}  // namespace torture
