// pmfs cp: between local files and volumes, or between volumes. Holes stay holes, a copy that fails leaves nothing.

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <vector>

#include <signal.h>
#include <unistd.h>

#include <fmt/format.h>

#include "pmfs/base/error.h"
#include "tools/pmfs/endpoint.h"
#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string from, to;
  bool progress = false;
};

std::atomic<int> g_signal{0};
void on_signal(int sig) { g_signal.store(sig); }

// While it lives, SIGINT and SIGTERM end the copy at the next chunk, which removes the temporary file.
class StopOnSignal {
 public:
  StopOnSignal() {
    struct sigaction sa {};
    sa.sa_handler = on_signal;  // no SA_RESTART: a read that waits is to end
    for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &sa, &old_[i]);
  }
  ~StopOnSignal() {
    for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &old_[i], nullptr);
  }
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

  static void check(const std::string& what) {
    if (const int sig = g_signal.load(); sig != 0) {
      fail(ECANCELED, "{}: the copy was ended by signal {}; nothing is left of it, start it again", what, sig);
    }
  }

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction old_[std::size(kSignals)] {};
};

// A line on standard error that is drawn over, ten times a second.
class Progress {
 public:
  Progress(bool on, std::string name, std::optional<uint64_t> total) : on_(on), name_(std::move(name)), total_(total) {}
  ~Progress() {
    if (drawn_) fmt::print(stderr, "\n");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void at(uint64_t pos, uint64_t copied, bool last) {
    const auto now = Clock::now();
    if (!on_ || (!last && now - shown_ < std::chrono::milliseconds(100))) return;
    shown_ = now;
    drawn_ = true;
    const double s = std::chrono::duration<double>(now - begin_).count();
    const std::string rate = human_size(s > 0 ? static_cast<uint64_t>(static_cast<double>(copied) / s) : 0) + "/s";
    if (!total_) {
      fmt::print(stderr, "\r{}  {}  {}\x1b[K", printable(name_), human_size(pos), rate);
    } else {
      constexpr size_t kWidth = 30;
      const double share = *total_ == 0 ? 1.0 : static_cast<double>(pos) / static_cast<double>(*total_);
      const size_t full = std::min(kWidth, static_cast<size_t>(share * kWidth));
      fmt::print(stderr, "\r{}  [{}{}] {:3.0f} %  {} of {}  {}\x1b[K", printable(name_), std::string(full, '#'),
                 std::string(kWidth - full, '.'), share * 100, human_size(pos), human_size(*total_), rate);
    }
    std::fflush(stderr);
  }

 private:
  const bool on_;
  const std::string name_;
  const std::optional<uint64_t> total_;
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point shown_ = begin_;
  bool drawn_ = false;
};

struct Copied {
  uint64_t size = 0, data = 0;  // bytes: of the file, of what is not a hole
};

Copied copy(Source& from, Sink& to, bool progress) {
  constexpr size_t kChunk = 1 << 20;
  std::vector<std::byte> buffer(kChunk);
  const std::optional<uint64_t> total = from.size();
  const uint64_t end = total.value_or(UINT64_MAX);
  Progress bar(progress, from.name(), total);
  Copied c;
  if (total) to.resize(*total);  // known beforehand, the file gets long extents
  uint64_t pos = 0;
  while (pos < end) {
    const auto range = from.next_data(pos);
    if (!range || range->begin >= end) break;
    pos = range->begin;
    const uint64_t until = std::min(range->end, end);
    while (pos < until) {
      StopOnSignal::check(to.text());
      size_t n = 0;
      try {
        n = from.read({buffer.data(), static_cast<size_t>(std::min<uint64_t>(kChunk, until - pos))}, pos);
      } catch (const Error& e) {
        if (e.err() == EINTR) continue;
        throw;
      }
      if (n == 0 && total) fail(EIO, "{}: became shorter while it was read; copy it again", from.text());
      if (n == 0) {
        c.size = pos;
        bar.at(pos, c.data, true);
        return c;
      }
      to.write({buffer.data(), n}, pos);
      pos += n;
      c.data += n;
      bar.at(pos, c.data, false);
    }
  }
  c.size = end;
  bar.at(end, c.data, true);
  return c;
}

void cp(const Context& c, const Options& o) {
  if (!is_target(o.from) && !is_target(o.to)) {
    throw UsageError(fmt::format("cp: neither {} nor {} is in a volume; write VOLUME_DIR:/path for one of them", o.from,
                                 o.to));
  }
  const auto begin = Clock::now();
  StopOnSignal stop;
  const auto from = open_source(o.from);
  const auto to = open_sink(o.to, from->name(), from->mode());
  const Copied copied = copy(*from, *to, o.progress || (isatty(STDERR_FILENO) != 0 && !c.json));
  StopOnSignal::check(to->text());
  to->commit();
  if (c.json) {
    print_json({{"from", from->text()}, {"to", to->text()}, {"size", copied.size}, {"data_bytes", copied.data},
                {"seconds", std::chrono::duration<double>(Clock::now() - begin).count()}});
  }
}

}  // namespace

void add_copy(CLI::App& app, Context& c) {
  auto o = std::make_shared<Options>();
  CLI::App* cmd = add_command(app, c, "cp", "Copy a file into, out of or between volumes; holes stay holes",
                              "  pmfs cp data.bin /dev/shm/vol:/data.bin\n"
                              "  pmfs cp /dev/shm/vol:/data.bin /tmp/       into a directory, under its own name\n"
                              "  pmfs cp /dev/shm/a:/x /dev/shm/b:/x\n"
                              "The copy appears under its name when all of it is there and durable.\n",
                              [&c, o] { cp(c, *o); });
  cmd->add_option("FROM", o->from, "a local file, or VOLUME_DIR:/path/in/volume")->required();
  cmd->add_option("TO", o->to, "a local path, or VOLUME_DIR:/path/in/volume")->required();
  cmd->add_flag("--progress", o->progress, "show progress even if standard error is no terminal");
}

}  // namespace pmfs::cli
