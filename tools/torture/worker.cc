#include "tools/torture/worker.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <cstring>
#include <numeric>

#include <fmt/format.h>

#include "pmfs/error.hpp"

namespace torture {

namespace {

// A fresh connection does not wait for a manager; here one that was killed is soon back.
std::unique_ptr<Fs> connect(const Config& c) {
  if (c.is_target) return make_target_fs(c.path);
  for (const uint64_t until = now_ns() + 10'000'000'000;;) {
    try {
      return make_pmfs_fs(c.path);
    } catch (const pmfs::Error& e) {
      const int err = e.err();
      const bool down = err == ENOTCONN || err == ENOENT || err == ECONNREFUSED || err == EPIPE || err == ECONNRESET;
      if (!down || c.kills_manager == 0 || now_ns() > until) throw;
    }
    usleep(1000);
  }
}

}  // namespace

Worker::Worker(ControlBlock* cb, unsigned index, uint64_t ordinal)
    : cb_(cb), index_(index), me_(&cb->clients[index]), rng_(cb->config.seed * 0x9E3779B97F4A7C15ull + ordinal),
      buffer_(64 * kPage) {
  std::copy_n(cb->config.weights, kMixOps, weights_.begin());
  fs_ = connect(cb->config);
}

int Worker::run() {
  catch_sigbus();
  for (uint64_t n = 0; cb_->stop.load() == 0 && !manager_gone_; ++n) {
    me_->progress.fetch_add(1);
    if (n % 64 == 0) {
      rusage u{};
      getrusage(RUSAGE_SELF, &u);
      me_->minor_faults = static_cast<uint64_t>(u.ru_minflt);
    }
    auto f = static_cast<unsigned>(below(cb_->config.files));
    uint64_t pick = below(std::accumulate(weights_.begin(), weights_.end(), uint64_t{0}));
    unsigned op = 0;
    while (pick >= weights_[op]) pick -= weights_[op++];
    Open* o = open_file(f);
    if (cb_->files[f].retire.load() != 0 && n % 8 == 0) op = kMixRecreate;
    if (op == kMixFork) {
      fork_child();
    } else if (op == kMixRecreate || op == kMixRename) {
      renew(f, o, op == kMixRename);
    } else if (o != nullptr) {
      switch (op) {
        case kMixTouch: burst(f, *o); break;
        case kMixPunch: punch(f, *o, false); break;
        case kMixTruncate: truncate(f, *o); break;
        case kMixZero: punch(f, *o, true); break;
        case kMixRead: read(f, *o); break;
        case kMixWrite: write(f, *o); break;
        case kMixAppend: append(f, *o); break;
        case kMixPipe: below(2) == 0 ? pipe_out(f, *o) : pipe_in(f, *o); break;
        default: remap(f, *o); break;
      }
    } else {
      usleep(200);  // the file is just being replaced
    }
  }
  for (unsigned f = 0; f < cb_->config.files; ++f) close_file(f);
  return manager_gone_ && cb_->stop.load() == 0 ? 4 : 0;
}

Worker::Open* Worker::open_file(unsigned f) {
  Open& o = open_[f];
  // An old incarnation is used for a while: mappings outlive unlink and rename over.
  if (o.file && (o.packed == cb_->files[f].current.load() || below(16) != 0)) return &o;
  close_file(f);
  uint64_t packed = cb_->files[f].current.load();
  if (packed == 0) return nullptr;
  o.packed = packed;
  o.current = unpack(packed);
  unsigned area = area_of(f, o);
  me_->pins[f] = static_cast<uint8_t>(area + 1);
  // Pinned too late if the slot has moved on: the area may be in use for something new by now.
  if (cb_->files[f].current.load() == packed) {
    try {
      o.file = fs_->open(file_name(cb_->config, f, o.current.name), false);
      o.id = o.file->id();
      const Area& a = cb_->areas[area];
      // The name may lead to the next incarnation already; then what we have is not what the area describes.
      if (cb_->files[f].current.load() == packed && o.id.ino == a.ino && o.id.generation == a.generation) {
        o.map = o.file->map(0, cb_->config.file_pages * kPage);
        publish_map(2 * f, o.map.get(), 0, o.id);
        return &o;
      }
    } catch (const pmfs::Error& e) {
      if (e.err() != ENOENT) tolerate(f, &o, OpKind::kOpen, e.err(), e.message());
    }
  }
  close_file(f);
  return nullptr;
}

void Worker::close_file(unsigned f) {
  Open& o = open_[f];
  publish_map(2 * f, nullptr, 0, {});
  publish_map(2 * f + 1, nullptr, 0, {});
  try {
    o = Open{};
  } catch (const pmfs::Error& e) {
    tolerate(f, nullptr, OpKind::kRemap, e.err(), e.message());
  }
  me_->pins[f] = 0;
}

void Worker::publish_map(unsigned entry, const FsMapping* m, uint64_t pgoff, const FileId& id) {
  MapEntry& e = me_->maps[entry];
  e.seq.fetch_add(1);
  e.va = m != nullptr ? reinterpret_cast<uint64_t>(m->data) : 0;
  e.ino = id.ino;
  e.generation = id.generation;
  e.pgoff = pgoff;
  e.pages = m != nullptr ? m->bytes / kPage : 0;
  e.seq.fetch_add(1);
}

// Most accesses go where something was just taken away; some anywhere, a few beyond the end of the file.
void Worker::burst(unsigned f, Open& o) {
  uint64_t hot = cb_->files[f].hot.load();
  uint64_t first = 0, span = cb_->config.file_pages;
  if (hot != 0 && below(4) != 0) {
    first = hot >> 32;
    span = hot & 0xffffffff;
  }
  uint64_t page = first + below(span);
  bool walk = below(3) == 0;
  for (unsigned i = 0; i < 8; ++i) {
    page = walk ? page + 1 : first + below(span);
    if (page >= cb_->config.file_pages) page = below(cb_->config.file_pages);
    bool alias = o.alias && page >= o.alias_page && page < o.alias_page + o.alias->bytes / kPage && below(2) == 0;
    touch(f, o, page, static_cast<unsigned>(below(kWords)), below(2) == 0, alias);
    me_->progress.fetch_add(1, std::memory_order_relaxed);
  }
}

void Worker::touch(unsigned f, Open& o, uint64_t page, unsigned word, bool store, bool alias) {
  unsigned area = area_of(f, o);
  Area& a = cb_->areas[area];
  PageState& state = cb_->pages(area)[page];
  std::byte* base = alias ? o.alias->data + (page - o.alias_page) * kPage : o.map->data + page * kPage;
  std::byte* p = base + word * kWordStride;
  uint64_t at = page * kPage + word * kWordStride;
  SizeView size = view_size(a);
  if (!store) {
    OpRecord* r = begin(OpKind::kLoad, f, o.current.incarnation, at, 8, 0);
    Expectation e = expect(state, word);
    uint64_t value = 0;
    bool ok = load_word(p, &value);
    r->end_ns = now_ns();
    check_bus(f, o, size, page, !ok, false);
    std::string why;
    const char* kind = ok ? judge(cb_, area, page, word, value, e, &why) : nullptr;
    // The copy of a write need not go word by word: half a word that is whole at the next look was no violation.
    if (kind != nullptr && std::strcmp(kind, "garbage") == 0) {
      e = expect(state, word);
      kind = load_word(p, &value) ? judge(cb_, area, page, word, value, e, &why) : nullptr;
    }
    if (kind != nullptr) violation(kind, fmt::format("a load saw {}", why), f, o, page, p);
    return;
  }
  uint32_t ended = state.ended.load(), begun = state.begun.load();
  set_in_flight(area, at, at + 8);
  uint32_t gen = cb_->epoch.load();
  OpRecord* r = begin(OpKind::kStore, f, o.current.incarnation, at, 8, gen);
  bool ok = store_word(p, encode({a.stamp_id.load(), static_cast<uint32_t>(page), gen}, word));
  me_->in_flight.seq.fetch_add(1);
  r->end_ns = now_ns();
  check_bus(f, o, size, page, !ok, true);
  bool quiet = begun == ended && state.begun.load() == begun;
  if (ok && quiet && size.known && unchanged(a, size) && at + 8 <= size.size) state.present[word] = begun + 1;
}

void Worker::set_in_flight(unsigned area, uint64_t first, uint64_t end) {
  InFlight& in_flight = me_->in_flight;
  in_flight.area = area + 1;
  in_flight.first = first;
  in_flight.end = end;
  in_flight.seq.fetch_add(1);
}

namespace {

// What this process has mapped there, and how large that file is now.
std::string mapped_as(const void* va) {
  std::ifstream maps("/proc/self/maps");
  const auto at = reinterpret_cast<uint64_t>(va);
  for (std::string line; std::getline(maps, line);) {
    uint64_t first = 0, end = 0, offset = 0;
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64, &first, &end, &offset) != 3) continue;
    if (at < first || at >= end) continue;
    struct stat st{};
    const std::string link = fmt::format("/proc/self/map_files/{:x}-{:x}", first, end);
    const bool known = stat(link.c_str(), &st) == 0;
    return fmt::format("[{} file of {} bytes, here {}]", line.substr(line.rfind(' ') + 1), known ? st.st_size : -1,
                       offset + (at - first));
  }
  return "[nothing is mapped]";
}

}  // namespace

uint64_t Worker::touchable_pages(uint64_t size) const {
  const uint64_t unit = cb_->config.map_pages;
  return ((size + kPage - 1) / kPage + unit - 1) / unit * unit;
}

void Worker::check_bus(unsigned f, Open& o, const SizeView& before, uint64_t page, bool bus, bool store) {
  if (bus) me_->sigbus.fetch_add(1, std::memory_order_relaxed);
  const Area& a = cb_->areas[area_of(f, o)];
  if (!before.known || !unchanged(a, before) || a.tainted.load() != 0) return;
  uint64_t pages = (before.size + kPage - 1) / kPage;
  if (bus && page < pages && cb_->config.may_fill != 0) {
    me_->no_space.fetch_add(1);
    return;
  }
  const char* what = store ? "store" : "load";
  // A file may grow at a new manager before this process, which was stopped, say, has found out that the old one is dead.
  if (bus && page < pages && cb_->config.kills_manager != 0) {
    constexpr uint64_t kLateNs = 2'000'000'000;
    uint64_t value = 0;
    for (const uint64_t until = now_ns() + kLateNs; now_ns() < until; usleep(1000))
      if (load_word(o.map->data + page * kPage, &value) || !unchanged(a, before)) return;
  }
  if (bus && page < pages) {
    violation("sigbus", fmt::format("a {} inside the file got SIGBUS: the size is {} bytes and nobody changes it; {}", what,
                                    before.size, mapped_as(o.map->data + page * kPage)), f, o, page, o.map->data + page * kPage);
  } else if (!bus && page >= touchable_pages(before.size)) {
    violation("beyond-eof", fmt::format("a {} beyond the end of file succeeded: the size is {} bytes and nobody changes "
                                        "it", what, before.size), f, o, page, o.map->data + page * kPage);
  }
}

OpRecord* Worker::begin(OpKind op, unsigned f, uint32_t incarnation, uint64_t first, uint64_t count, uint32_t gen) {
  me_->counts[static_cast<size_t>(op)].fetch_add(1, std::memory_order_relaxed);
  OpRecord* r = &me_->ring[me_->ring_head.load(std::memory_order_relaxed) % kRingSize];
  *r = {now_ns(), 0, first, count, incarnation, gen, static_cast<uint8_t>(f), op, 0};
  me_->ring_head.fetch_add(1);
  return r;
}

void Worker::violation(const char* kind, const std::string& why, unsigned f, const Open& o, uint64_t page,
                       const void* at) {
  report_violation(cb_, index_, kind,
                   fmt::format("client {} (pid {}), file {} (ino {}) page {}: {}", index_, getpid(), f, o.id.ino, page, why),
                   f, o.current.incarnation, page, block_at(at), o.id.ino);
}

int worker_main(int control_fd, unsigned index, uint64_t ordinal) {
  pid_t parent = getppid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) return 3;
  ControlBlock* cb = map_control_block(control_fd);
  cb->clients[index].pid = getpid();
  try {
    return Worker(cb, index, ordinal).run();
  } catch (const pmfs::Error& e) {
    if (cb->stop.load() != 0) return 0;
    report_violation(cb, index, "error", fmt::format("client {}: {}: {}", index, e.message(), strerror(e.err())));
    return 3;
  }
}

}  // namespace torture
