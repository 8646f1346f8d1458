#include "pmfs/fault/uffd.h"

#include <cerrno>

#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <string>

#include "pmfs/base/error.h"
#include "pmfs/base/sys.h"

namespace pmfs::fault {

namespace {

// Newer than Debian 12's headers.
constexpr uint64_t kContinueModeWp = 1u << 1;  // Linux 6.4
struct PoisonArgs {                            // UFFDIO_POISON, Linux 6.6
  uffdio_range range;
  uint64_t mode;
  int64_t updated;
};

}  // namespace

Uffd::Uffd(UniqueFd fd) : fd_(std::move(fd)) {
  char target[64] = {};
  std::string link = "/proc/self/fd/" + std::to_string(fd_.get());
  ssize_t n = ::readlink(link.c_str(), target, sizeof target - 1);
  if (n <= 0 || std::string_view(target) != "anon_inode:[userfaultfd]")
    fail(EINVAL, "the client sent {} where its userfaultfd was expected", n > 0 ? target : "nothing usable");
}

size_t Uffd::read(uffd_msg* out, size_t max) {
  iovec v{out, max * sizeof *out};
  ssize_t n = ::preadv2(fd_.get(), &v, 1, -1, RWF_NOWAIT);
  if (n < 0 && (errno == EOPNOTSUPP || errno == ESPIPE)) {
    // Before Linux 6.10: only O_NONBLOCK keeps it from sleeping. A client that clears it in between holds a pager up until
    // its own next event.
    int on = 1;
    ::ioctl(fd_.get(), FIONBIO, &on);
    n = ::read(fd_.get(), out, max * sizeof *out);
  }
  return n > 0 ? static_cast<size_t>(n) / sizeof *out : 0;
}

int Uffd::install(uint64_t va, uint64_t bytes, bool write_protected, uint64_t* mapped) {
  uffdio_continue c{};
  c.range = {va, bytes};
  c.mode = write_protected ? kContinueModeWp : 0;
  int err = sys().uffd_ioctl(fd_.get(), UFFDIO_CONTINUE, &c);
  *mapped = err == 0 ? bytes : c.mapped > 0 ? static_cast<uint64_t>(c.mapped) : 0;
  return err;
}

int Uffd::protect(uint64_t va, uint64_t bytes) {
  uffdio_writeprotect w{};
  w.range = {va, bytes};
  w.mode = UFFDIO_WRITEPROTECT_MODE_WP;
  return sys().uffd_ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &w);
}

int Uffd::unprotect(uint64_t va, uint64_t bytes) {
  uffdio_writeprotect w{};
  w.range = {va, bytes};
  return sys().uffd_ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &w);
}

int Uffd::show_zeros(uint64_t va, uint64_t bytes, uint64_t* mapped) {
  alignas(4096) static const std::byte kZeros[kMaxZeros]{};
  uffdio_copy c{};
  c.dst = va;
  c.src = reinterpret_cast<uint64_t>(kZeros);
  c.len = bytes;
  c.mode = UFFDIO_COPY_MODE_WP;
  const int err = sys().uffd_ioctl(fd_.get(), UFFDIO_COPY, &c);
  *mapped = err == 0 ? bytes : c.copy > 0 ? static_cast<uint64_t>(c.copy) : 0;
  return err;
}

int Uffd::wake(uint64_t va, uint64_t bytes) {
  uffdio_range r{va, bytes};
  return sys().uffd_ioctl(fd_.get(), UFFDIO_WAKE, &r);
}

int Uffd::poison(uint64_t va, uint64_t bytes) {
  PoisonArgs p{{va, bytes}, 0, 0};
  return sys().uffd_ioctl(fd_.get(), _IOWR(UFFDIO, 0x08, PoisonArgs), &p);
}

}  // namespace pmfs::fault
