#include "pmfs/proto/ring.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <boost/interprocess/detail/os_file_functions.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <new>

#include "pmfs/base/error.h"
#include "pmfs/base/unique_fd.h"

namespace pmfs::proto {
namespace bip = boost::interprocess;

namespace {

// What mapped_region asks of a "memory mappable": the fd and the mode. Borrows the fd.
struct MemfdMappable {
  int fd;
  bip::mapping_handle_t get_mapping_handle() const { return bip::ipcdetail::mapping_handle_from_file_handle(fd); }
  bip::mode_t get_mode() const { return bip::read_write; }
};

}  // namespace

struct Ring::Impl {
  bip::mapped_region map;
};

int Ring::create_memfd() {
  UniqueFd fd(memfd_create("pmfs-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) fail(errno, "can't create the memory of a session's ring; out of file descriptors or memory?");
  if (ftruncate(fd.get(), static_cast<off_t>(RingLayout::kBytes)) != 0) {
    fail(errno, "can't size the ring to {} bytes", RingLayout::kBytes);
  }
  // Header by pwrite: the values stay what a mapping shows (slots are zero, i.e. kFree).
  alignas(RingHeader) std::byte bytes[sizeof(RingHeader)] = {};
  auto* h = new (bytes) RingHeader{};
  h->magic = kMagic;
  h->version = kVersion;
  h->slots = kSlots;
  h->agent_slots = kAgentSlots;
  h->bounce_bytes = kBounceBytes;
  if (pwrite(fd.get(), bytes, sizeof bytes, 0) != static_cast<ssize_t>(sizeof bytes)) {
    fail(errno != 0 ? errno : EIO, "can't write the ring's header");
  }
  // A peer that could shrink the file would turn our loads into SIGBUS.
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    fail(errno, "can't seal the ring's memory file");
  }
  return fd.release();
}

Ring::Ring(int memfd) : impl_(std::make_unique<Impl>()) {
  struct stat st {};
  if (fstat(memfd, &st) != 0) fail(errno, "can't look at the ring's memory file");
  const int seals = fcntl(memfd, F_GET_SEALS);
  if (st.st_size != static_cast<off_t>(RingLayout::kBytes) || seals < 0 ||
      (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW)) {
    fail(EPROTO, "the ring has {} bytes and seals {:#x}, expected {} bytes, sealed; different versions of pmfs?",
         st.st_size, seals, RingLayout::kBytes);
  }
  try {
    impl_->map = bip::mapped_region(MemfdMappable{memfd}, bip::read_write, 0, RingLayout::kBytes);
  } catch (const bip::interprocess_exception& e) {
    fail(e.get_native_error() != 0 ? e.get_native_error() : ENOMEM, "can't map the ring: {}", e.what());
  }
  base_ = static_cast<std::byte*>(impl_->map.get_address());
  const RingHeader& h = header();
  if (h.magic != kMagic || h.version != kVersion || h.slots != kSlots || h.agent_slots != kAgentSlots ||
      h.bounce_bytes != kBounceBytes) {
    fail(EPROTO, "the ring has magic {:#x}, version {}, {} slots; expected {:#x}, {}, {}", uint32_t{h.magic},
         uint16_t{h.version}, uint32_t{h.slots}, kMagic, kVersion, kSlots);
  }
}

Ring::~Ring() = default;

void futex_wake(std::atomic<uint32_t>* word, int count) {
  syscall(SYS_futex, word, FUTEX_WAKE, count, nullptr, nullptr, 0);
}

void futex_wait(std::atomic<uint32_t>* word, uint32_t expected, int64_t timeout_ns) {
  timespec ts{};
  if (timeout_ns >= 0) {
    ts.tv_sec = timeout_ns / 1'000'000'000;
    ts.tv_nsec = timeout_ns % 1'000'000'000;
  }
  syscall(SYS_futex, word, FUTEX_WAIT, expected, timeout_ns >= 0 ? &ts : nullptr, nullptr, 0);
}

}  // namespace pmfs::proto
