#include "bench/beside.h"

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <functional>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "bench/child.h"
#include "bench/histogram.h"
#include "bench/random.h"

namespace pmfs::bench {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPunch = 64 << 10;  // bytes
constexpr const char* kName = "beside";
constexpr const char* kOther = "beside-other";

struct State {
  Barrier start;
  std::atomic<bool> stop{false};
  std::array<Histogram, kMaxClients> ns;
  std::array<double, kMaxClients> seconds{};
  uint64_t punches = 0;
  double punch_seconds = 0;
};

void store(std::byte* page, std::byte value) { *const_cast<volatile std::byte*>(page) = value; }

void fault_pages(std::byte* p, const BesideWork& w, State& state, unsigned client) {
  const auto order = page_order(w.half / kPage, 88172645463325252u + client);
  Histogram& ns = state.ns[client];
  const auto start = Clock::now();
  for (size_t i = 0; w.fresh ? i < order.size() : seconds_since(start) < w.seconds; ++i) {
    std::byte* const page = p + order[i % order.size()] * kPage;
    if (!w.fresh && madvise(page, kPage, MADV_DONTNEED) != 0) {
      throw std::system_error(errno, std::generic_category(), "madvise");
    }
    const auto t = Clock::now();
    store(page, std::byte{3});
    ns.add(static_cast<uint64_t>(std::chrono::nanoseconds(Clock::now() - t).count()));
  }
  state.seconds[client] = seconds_since(start);
}

// Until the next multiple of the gap since `next`; what is late is not caught up on.
void keep_pace(timespec& next) {
  next.tv_nsec += 1000000000 / kPunchesPerSecond;
  if (next.tv_nsec >= 1000000000) {
    next.tv_nsec -= 1000000000;
    ++next.tv_sec;
  }
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (now.tv_sec > next.tv_sec || (now.tv_sec == next.tv_sec && now.tv_nsec > next.tv_nsec)) {
    next = now;
  } else {
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, nullptr);
  }
}

void punch_and_refill(TestFile& file, std::byte* p, const BesideWork& w, State& state) {
  const uint64_t end = 2 * w.half;
  const uint64_t base = w.target == Target::kOtherHalf ? w.half : 0;
  timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  const auto start = Clock::now();
  uint64_t count = 0;
  for (uint64_t step = 0; !state.stop.load(std::memory_order_relaxed); step = (step + kPunch) % w.half) {
    const uint64_t at = w.target == Target::kTail ? end - kPunch : base + step;
    if (w.target == Target::kTail) {
      file.truncate(at);
      file.truncate(end);
    } else {
      file.punch(at, kPunch);
    }
    for (uint64_t page = at; page < at + kPunch; page += kPage) store(p + page, std::byte{2});
    ++count;
    if (w.pace == Pace::kPaced) keep_pace(next);
  }
  state.punches = count;
  state.punch_seconds = seconds_since(start);
}

}  // namespace

BesideFigures faults_beside(const Places& places, Side side, const BesideWork& w) {
  if (w.clients == 0 || w.clients > kMaxClients || (w.fresh && w.clients != 1)) {
    throw std::invalid_argument("clients: 1 to 16; 1 for a fresh file");
  }
  Shared<State> state;
  state->start.init(w.clients + (w.pace != Pace::kNone ? 1 : 0));
  const char* const punched = w.target == Target::kOtherFile ? kOther : kName;
  in_child([&] {
    for (const char* name : {kName, kOther}) open_file(places, side, name)->truncate(2 * w.half);
  });
  {
    std::vector<Child> clients;
    for (unsigned c = 0; c < w.clients; ++c) {
      clients.emplace_back([&, c] {
        const auto file = open_file(places, side, kName);
        std::byte* p = file->map(2 * w.half);
        if (!w.fresh) {
          for (uint64_t at = 0; at < w.half; at += kPage) store(p + at, std::byte{1});
        }
        state->start.wait();
        fault_pages(p, w, *state, c);
      });
    }
    std::vector<Child> puncher;
    if (w.pace != Pace::kNone) {
      puncher.emplace_back([&] {
        const auto file = open_file(places, side, punched);
        std::byte* p = file->map(2 * w.half);
        for (uint64_t at = w.half; at < 2 * w.half; at += kPage) store(p + at, std::byte{2});
        state->start.wait();
        punch_and_refill(*file, p, w, *state);
      });
    }
    for (Child& c : clients) c.join();
    state->stop.store(true);
    for (Child& c : puncher) c.join();
  }
  in_child([&] {
    for (const char* name : {kName, kOther}) remove_file(places, side, name);
  });
  Histogram all;
  BesideFigures out{};
  for (unsigned c = 0; c < w.clients; ++c) {
    all.add(state->ns[c]);
    out.faults_per_second += static_cast<double>(state->ns[c].total()) / state->seconds[c];
  }
  out.p50_ns = all.quantile(0.5);
  out.p99_ns = all.quantile(0.99);
  out.p999_ns = all.quantile(0.999);
  if (w.pace != Pace::kNone) out.punches_per_second = static_cast<double>(state->punches) / state->punch_seconds;
  return out;
}

}  // namespace pmfs::bench
