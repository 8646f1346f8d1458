// Calls on files: punch, zero range, truncate, read, write, append, map again.
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "pmfs/error.hpp"
#include "tools/torture/worker.h"

namespace torture {

namespace {
constexpr uint64_t kMostPunched = 32;  // pages
}

template <class F>
bool Worker::api(unsigned f, const Open* o, OpKind op, uint64_t first, uint64_t count, uint32_t gen, const F& call) {
  OpRecord* r = begin(op, f, o != nullptr ? o->current.incarnation : 0, first, count, gen);
  bool ok = true;
  try {
    call();
  } catch (const pmfs::Error& e) {
    r->failed = 1;
    ok = tolerate(f, o, op, e.err(), e.message());
  }
  r->end_ns = now_ns();
  me_->progress.fetch_add(1);
  return ok && r->failed == 0;
}

// Always false. What may not happen is reported.
bool Worker::tolerate(unsigned f, const Open* o, OpKind op, int err, const std::string& message) {
  if (err == ENOSPC) {
    me_->no_space.fetch_add(1);
    return false;
  }
  // Its manager was killed in the middle of it. Whatever has come of it is there by now: nothing is left to come.
  if (err == EOWNERDEAD && cb_->config.kills_manager != 0) {
    if (op == OpKind::kRename || op == OpKind::kRecreate) cb_->files[f].retire = 1;
    return false;
  }
  bool gone = err == ENOTCONN || err == ECONNREFUSED || err == EPIPE || err == ECONNRESET;
  if (gone || cb_->stop.load() != 0) {
    manager_gone_ = gone;
    return false;
  }
  if (op == OpKind::kZeroRange && err == EOPNOTSUPP && cb_->config.is_target) {
    weights_[kMixZero] = 0;
    return false;
  }
  report_violation(cb_, index_, "error",
                   fmt::format("client {} (pid {}): {} on file {}: {} ({})", index_, getpid(), op_name(op), f, message,
                               strerror(err)),
                   f, o != nullptr ? o->current.incarnation : 0);
  return false;
}

template <class F>
void Worker::resizing(Open& o, const F& call) {
  auto f = static_cast<unsigned>(&o - open_.data());
  Area& a = cb_->areas[area_of(f, o)];
  me_->api_area = area_of(f, o) + 1;
  begin_resize(a);
  call();
  try {
    end_resize(a, [&] { return o.file->id().size; });
  } catch (const pmfs::Error& e) {
    tolerate(f, &o, OpKind::kOpen, e.err(), e.message());
  }
  me_->api_area = 0;
}

void Worker::punch(unsigned f, Open& o, bool zero_range) {
  unsigned area = area_of(f, o);
  uint64_t pages = 1 + below(kMostPunched);
  uint64_t first = below(cb_->config.file_pages) * kPage, end = std::min(first + pages * kPage, cb_->config.file_pages * kPage);
  if (const uint64_t unit = cb_->config.unit_pages * kPage; unit > kPage && below(2) == 0) {  // or few would free anything
    first -= first % unit;
    end = std::min((end + unit - 1) / unit * unit, cb_->config.file_pages * kPage);
  }
  if (below(5) == 0) {  // parts of the edge pages, by whole words
    first += below(kPage / 8) * 8;
    end -= below(std::min(end - first, kPage) / 8) * 8;
  }
  const Area& a = cb_->areas[area];
  SizeView size = view_size(a);
  me_->api_area = area + 1;
  Invalidation inv(cb_, index_, area, first, end);
  bool ok = api(f, &o, zero_range ? OpKind::kZeroRange : OpKind::kPunch, first, end - first, inv.gen(), [&] {
    if (zero_range)
      o.file->zero_range(first, end - first);
    else
      o.file->punch(first, end - first);
  });
  // A part of a page is only known to be zeroed where it is inside the file; and what a client has stored behind the
  // end in the last page is nobody's content: zero_range leaves it alone, growing zeroes it.
  bool known = size.known && unchanged(a, size);
  if (ok && zero_range) inv.returned(known, known ? size.size : 0);
  if (ok && !zero_range) inv.returned(known && end <= size.size);
  if (!manager_gone_) inv.finished();
  me_->api_area = 0;
  cb_->files[f].hot = (first / kPage) << 32 | std::max<uint64_t>(1, (end - first) / kPage);
  burst(f, o);
}

void Worker::truncate(unsigned f, Open& o) {
  unsigned area = area_of(f, o);
  uint64_t all = cb_->config.file_pages * kPage;
  uint64_t down = below(4) == 0 ? below(all) : all - below(all / 4);
  uint64_t size_to = down & ~uint64_t{below(2) == 0 ? kPage - 1 : 7};
  for (unsigned step = 0; step < 2; ++step) {
    resizing(o, [&] {
      const Area& a = cb_->areas[area];
      uint32_t version = a.size_version.load();
      uint64_t published = a.size_published.load();
      Invalidation inv(cb_, index_, area, size_to, ~uint64_t{0});
      bool ok = api(f, &o, OpKind::kTruncate, size_to, 0, inv.gen(), [&] { o.file->truncate(size_to); });
      // Only shrinking zeroes the rest of the last page, and only if no other call changed the size meanwhile.
      bool alone = a.size_version.load() == version && packed_version(published) == ((version - 1) & 0xffffff) &&
                   a.size_active.load() == 1;
      if (ok) inv.returned(alone && packed_size(published) > size_to);
      if (!manager_gone_) inv.finished();
    });
    if (step == 0) {
      uint64_t page = size_to / kPage;
      cb_->files[f].hot = page << 32 | std::min<uint64_t>(cb_->config.file_pages - page, kMostPunched);
    }
    burst(f, o);
    if (below(8) == 0) return;  // stays short
    size_to = all - (below(2) == 0 ? 0 : below(4 * kPage) & ~uint64_t{7});
  }
}

std::vector<Expectation> Worker::expect_pages(const Open& o, uint64_t page, uint64_t count) {
  auto f = static_cast<unsigned>(&o - open_.data());
  PageState* pages = cb_->pages(area_of(f, o));
  std::vector<Expectation> before;
  for (uint64_t p = page; p < page + count; ++p)
    for (unsigned w = 0; w < kWords; ++w) before.push_back(expect(pages[p], w));
  return before;
}

// The words of buffer_, which were read from `page` on.
void Worker::check_words(unsigned f, Open& o, uint64_t page, uint64_t bytes, const std::vector<Expectation>& before,
                         const char* what) {
  unsigned area = area_of(f, o);
  for (uint64_t i = 0; i < before.size() && i * kWordStride + 8 <= bytes; ++i) {
    auto word = static_cast<unsigned>(i % kWords);
    uint64_t value = 0, at = page + i / kWords;
    std::memcpy(&value, buffer_.data() + i * kWordStride, 8);
    std::string why;
    const char* kind = judge(cb_, area, at, word, value, before[i], &why);
    if (kind != nullptr && std::strcmp(kind, "garbage") == 0) {  // as in touch()
      Expectation e = expect(cb_->pages(area)[at], word);
      bool ok = load_word(o.map->data + at * kPage + word * kWordStride, &value);
      kind = ok ? judge(cb_, area, at, word, value, e, &why) : nullptr;
    }
    if (kind != nullptr) violation(kind, fmt::format("{} saw {}", what, why), f, o, at, o.map->data + at * kPage);
  }
}

uint64_t Worker::stamp_pages(const Open& o, uint64_t page, uint64_t count) {
  auto f = static_cast<unsigned>(&o - open_.data());
  uint32_t gen = cb_->epoch.load(), id = cb_->areas[area_of(f, o)].stamp_id.load();
  std::memset(buffer_.data(), 0, count * kPage);
  for (uint64_t i = 0; i < count * kWords; ++i) {
    uint64_t value = encode({id, static_cast<uint32_t>(page + i / kWords), gen}, i % kWords);
    std::memcpy(buffer_.data() + i * kWordStride, &value, 8);
  }
  return gen;
}

void Worker::read(unsigned f, Open& o) {
  uint64_t page = below(cb_->config.file_pages), count = 1 + below(std::min<uint64_t>(16, cb_->config.file_pages - page));
  std::vector<Expectation> before = expect_pages(o, page, count);
  const Area& a = cb_->areas[area_of(f, o)];
  SizeView size = view_size(a);
  size_t n = 0;
  std::span<std::byte> out(buffer_.data(), count * kPage);
  if (!api(f, &o, OpKind::kRead, page * kPage, count * kPage, 0, [&] { n = o.file->read(out, page * kPage); })) return;
  if (size.known && unchanged(a, size) && a.tainted.load() == 0) {
    uint64_t want = size.size <= page * kPage ? 0 : std::min(count * kPage, size.size - page * kPage);
    if (n != want)
      violation("short-read", fmt::format("read {} bytes where the file of {} has {}", n, size.size, want), f, o, page,
                o.map->data + page * kPage);
  }
  check_words(f, o, page, n, before, "a read call");
}

// Writes may lengthen the file (it may have been cut meanwhile), so each counts as a call that changes the size.
void Worker::write(unsigned f, Open& o) {
  uint64_t page = below(cb_->config.file_pages), count = 1 + below(std::min<uint64_t>(16, cb_->config.file_pages - page));
  uint64_t first = page * kPage, bytes = count * kPage;
  resizing(o, [&] {
    set_in_flight(area_of(f, o), first, first + bytes);
    auto gen = static_cast<uint32_t>(stamp_pages(o, page, count));
    api(f, &o, OpKind::kWrite, first, bytes, gen, [&] { o.file->write(std::span(buffer_.data(), bytes), first); });
    me_->in_flight.seq.fetch_add(1);
  });
}

// Appends zeros: where they will land is not known before. Everything may be touched, as far as others can tell.
void Worker::append(unsigned f, Open& o) {
  unsigned area = area_of(f, o);
  SizeView size = view_size(cb_->areas[area]);
  uint64_t bytes = (1 + below(1024)) * 8;
  if (!size.known || size.size + 16 * kPage > cb_->config.file_pages * kPage) return;
  resizing(o, [&] {
    std::memset(buffer_.data(), 0, bytes);
    Invalidation inv(cb_, index_, area, 0, ~uint64_t{0});
    api(f, &o, OpKind::kAppend, size.size, bytes, inv.gen(), [&] { o.file->append(std::span(buffer_.data(), bytes)); });
    if (!manager_gone_) inv.finished();
  });
}

// A second mapping of a part of the file comes or goes; sometimes the whole mapping is made anew.
void Worker::remap(unsigned f, Open& o) {
  if (below(4) == 0) return close_file(f);
  if (o.alias) {
    publish_map(2 * f + 1, nullptr, 0, {});
    api(f, &o, OpKind::kRemap, o.alias_page * kPage, o.alias->bytes, 0, [&] { o.alias.reset(); });
    return;
  }
  uint64_t page = below(cb_->config.file_pages);
  page -= page % cb_->config.map_pages;
  uint64_t pages = 1 + below(cb_->config.file_pages - page);
  api(f, &o, OpKind::kRemap, page * kPage, pages * kPage, 0, [&] { o.alias = o.file->map(page * kPage, pages * kPage); });
  o.alias_page = page;
  if (o.alias) publish_map(2 * f + 1, o.alias.get(), page, o.id);
}

}  // namespace torture
