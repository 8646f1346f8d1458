// System calls on mapped memory: the fault is taken in the kernel, on behalf of the client, and must end there. Beyond
// the end of the file they get EFAULT, or a short count.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "tools/torture/worker.h"

namespace torture {

namespace {

constexpr uint64_t kMostPiped = 4;  // pages: a pipe holds 16

bool make_pipe(int (&p)[2]) { return p[0] >= 0 || pipe2(p, O_CLOEXEC | O_NONBLOCK) == 0; }

void drain(int fd) {
  char rest[4096];
  while (read(fd, rest, sizeof rest) > 0) {
  }
}

}  // namespace

void Worker::pipe_out(unsigned f, Open& o) {
  if (!make_pipe(pipe_)) return;
  uint64_t page = below(cb_->config.file_pages);
  uint64_t count = 1 + below(std::min(kMostPiped, cb_->config.file_pages - page)), bytes = count * kPage;
  std::vector<Expectation> before = expect_pages(o, page, count);
  const Area& a = cb_->areas[area_of(f, o)];
  SizeView size = view_size(a);
  OpRecord* r = begin(OpKind::kPipe, f, o.current.incarnation, page * kPage, bytes, 0);
  ssize_t n = ::write(pipe_[1], o.map->data + page * kPage, bytes);
  int err = n < 0 ? errno : 0;
  r->end_ns = now_ns();
  if (size.known && unchanged(a, size) && a.tainted.load() == 0 && cb_->config.may_fill == 0) {
    uint64_t pages = (size.size + kPage - 1) / kPage;
    int64_t inside = page >= pages ? 0 : static_cast<int64_t>(std::min(count, pages - page) * kPage);
    bool as_it_should = inside == 0 ? n < 0 && err == EFAULT : n == inside;
    // What is behind the end in the last unit of a mapping of units may be there.
    const uint64_t touchable = touchable_pages(size.size);
    if (n > inside && page < touchable) as_it_should = n <= static_cast<int64_t>(std::min(count, touchable - page) * kPage);
    if (!as_it_should && err != EINTR && err != EAGAIN)
      violation("efault", fmt::format("write(2) from {} mapped bytes returned {} ({}): the size is {} and nobody changes it",
                                      bytes, n, strerror(err), size.size), f, o, page, o.map->data + page * kPage);
  }
  ssize_t got = n > 0 ? ::read(pipe_[0], buffer_.data(), static_cast<size_t>(n)) : 0;
  if (got > 0) check_words(f, o, page, static_cast<uint64_t>(got), before, "write(2) from mapped memory");
  drain(pipe_[0]);
}

void Worker::pipe_in(unsigned f, Open& o) {
  if (!make_pipe(pipe_)) return;
  uint64_t page = below(cb_->config.file_pages);
  uint64_t count = 1 + below(std::min(kMostPiped, cb_->config.file_pages - page)), bytes = count * kPage;
  set_in_flight(area_of(f, o), page * kPage, page * kPage + bytes);
  auto gen = static_cast<uint32_t>(stamp_pages(o, page, count));
  OpRecord* r = begin(OpKind::kPipe, f, o.current.incarnation, page * kPage, bytes, gen);
  bool ok = ::write(pipe_[1], buffer_.data(), bytes) == static_cast<ssize_t>(bytes) &&
            ::read(pipe_[0], o.map->data + page * kPage, bytes) == static_cast<ssize_t>(bytes);
  me_->in_flight.seq.fetch_add(1);
  r->failed = ok ? 0 : 1;
  r->end_ns = now_ns();
  drain(pipe_[0]);
}

}  // namespace torture
