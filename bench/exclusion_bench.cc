// What the exclusion of faults and invalidates costs, without clients and without a region: entries, marks, range
// locks and the schemes. Figures are for an optimised build with PMFS_DEBUG off.
//
//   exclusion_bench [--benchmark_filter=REGEX]
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include <benchmark/benchmark.h>

#include "bench/fault_path.h"

using namespace pmfs;
using namespace pmfs::exclusion;

namespace {

constexpr uint64_t kHalf = 512 * 64;  // pages; the faults' half of the file, the punches' follows

void put(LockEntryTree& t, uint64_t p) {
  LockedEntry e = t.lock(Pgoff(p), 0, Wait::kBlock);
  t.unlock(e, Entry::make(Pfn(p), 0, 0));
}

void fault(LockEntryTree& t, uint64_t p) {
  LockedEntry e = t.lock(Pgoff(p), 0, Wait::kBlock);
  benchmark::DoNotOptimize(e.value.bits);
  t.unlock(e, Entry::make(Pfn(p), 0, 0));
}

void fill(LockEntryTree& t, uint64_t pages) {
  for (uint64_t p = 0; p < pages; ++p) put(t, p);
}

// The floor: two compare-and-swaps on one word.
void TwoCompareAndSwaps(benchmark::State& state) {
  std::atomic<uint64_t> word{0};
  for (auto _ : state) {
    uint64_t expected = 0;
    word.compare_exchange_strong(expected, 1);
    expected = 1;
    word.compare_exchange_strong(expected, 0);
  }
}
BENCHMARK(TwoCompareAndSwaps);

void FaultOnOnePage(benchmark::State& state) {
  LockEntryTree t(1);
  fill(t, 1024);
  for (auto _ : state) fault(t, 700);
}
BENCHMARK(FaultOnOnePage);

// Each thread on pages of its own; range(0): pages between two threads' (1: they share cache lines).
void FaultThreads(benchmark::State& state) {
  static std::unique_ptr<LockEntryTree> tree;
  if (state.thread_index() == 0) {
    tree = std::make_unique<LockEntryTree>(1);
    fill(*tree, 512 * 8);
  }
  const uint64_t page = static_cast<uint64_t>(state.thread_index() * state.range(0));
  for (auto _ : state) fault(*tree, page);
  state.SetItemsProcessed(state.iterations());
  if (state.thread_index() == 0) tree.reset();
}
BENCHMARK(FaultThreads)->ArgName("apart")->Arg(512)->Arg(1)->ThreadRange(1, 8)->UseRealTime();

void FaultThreadsOnOnePage(benchmark::State& state) {
  static std::unique_ptr<LockEntryTree> tree;
  if (state.thread_index() == 0) tree = std::make_unique<LockEntryTree>(1);
  for (auto _ : state) fault(*tree, 7);
  state.SetItemsProcessed(state.iterations());
  if (state.thread_index() == 0) tree.reset();
}
BENCHMARK(FaultThreadsOnOnePage)->ThreadRange(1, 8)->UseRealTime();

// An invalidate in a loop, as punch does it, beside the faults of one thread.
class Puncher {
 public:
  Puncher(LockEntryTree& t, Scheme& s, PageRange r) : thread_([this, &t, &s, r] { run(t, s, r); }) {}
  ~Puncher() { stop(); }
  uint64_t stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return punches_;
  }

 private:
  void run(LockEntryTree& t, Scheme& s, PageRange r) {
    while (!stop_) {
      InvalidateTicket ticket;
      if (!s.enter_invalidate(r, Wait::kBlock, nullptr, &ticket)) continue;
      s.unmapped(&ticket);
      t.erase(r, s.erase_mode());
      s.leave_invalidate(&ticket);
      ++punches_;
      std::this_thread::yield();
    }
  }
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> punches_{0};
  std::thread thread_;
};

// Random pages of a tree of range(0) pages: no lock, and with the lock.
void Lookup(benchmark::State& state) {
  LockEntryTree t(1);
  const auto pages = static_cast<uint64_t>(state.range(0));
  fill(t, pages);
  std::mt19937_64 rng(1);
  for (auto _ : state) benchmark::DoNotOptimize(t.peek(Pgoff(rng() % pages)).bits);
  state.counters["bytes/page"] = static_cast<double>(t.memory_bytes()) / static_cast<double>(pages);
}
BENCHMARK(Lookup)->RangeMultiplier(10)->Range(1'000, 100'000'000);

void FaultOnRandomPage(benchmark::State& state) {
  LockEntryTree t(1);
  const auto pages = static_cast<uint64_t>(state.range(0));
  fill(t, pages);
  std::mt19937_64 rng(1);
  for (auto _ : state) fault(t, rng() % pages);
}
BENCHMARK(FaultOnRandomPage)->RangeMultiplier(10)->Range(1'000, 10'000'000);

// Mark and unmark a range of range(0) pages in a file that has range(1) entries: setting is O(log n), draining looks
// at what is there.
void MarkUnmark(benchmark::State& state) {
  LockEntryTree t(1);
  fill(t, static_cast<uint64_t>(state.range(1)));
  const PageRange r{Pgoff(3), Pgoff(3 + static_cast<uint64_t>(state.range(0)))};
  for (auto _ : state) t.unmark(*t.mark(r, Wait::kBlock));
}
BENCHMARK(MarkUnmark)
    ->ArgNames({"pages", "entries"})
    ->ArgsProduct({{16, 512, 1 << 18, int64_t{1} << 40}, {1'000}})
    ->Args({int64_t{1} << 40, 1'000'000});

void RangeLockUncontended(benchmark::State& state) {
  RangeLock l(1);
  for (auto _ : state) l.Unlock(l.Lock({Pgoff(0), Pgoff(10)}, RangeMode::kExclusive));
}
BENCHMARK(RangeLockUncontended);

// A page per thread.
void SchemeFault(benchmark::State& state, const SchemeInfo& info) {
  static std::unique_ptr<LockEntryTree> tree;
  static std::unique_ptr<Scheme> scheme;
  if (state.thread_index() == 0) {
    tree = std::make_unique<LockEntryTree>(1);
    scheme = info.make(*tree, 1);
    fill(*tree, 512 * 8);
  }
  const uint64_t page = static_cast<uint64_t>(state.thread_index()) * 512;
  for (auto _ : state) bench::fault(*scheme, *tree, page);
  state.SetItemsProcessed(state.iterations());
  if (state.thread_index() == 0) {
    scheme.reset();
    tree.reset();
  }
}

// range(0): pages between the faults and the punched range; 0: the punches hit the very pages that fault.
void SchemeBesidePunches(benchmark::State& state, const SchemeInfo& info) {
  LockEntryTree t(1);
  std::unique_ptr<Scheme> s = info.make(t, 1);
  fill(t, 512);
  const uint64_t first = state.range(0) == 0 ? 0 : 511 + static_cast<uint64_t>(state.range(0));
  Puncher puncher(t, *s, PageRange{Pgoff(first), Pgoff(first + 16)});
  uint64_t p = 0;
  for (auto _ : state) {
    bench::fault(*s, t, p);
    p = (p + 1) % 16;
  }
  state.counters["punches/s"] = benchmark::Counter(static_cast<double>(puncher.stop()), benchmark::Counter::kIsRate);
  state.SetItemsProcessed(state.iterations());
}

// Nobody faults: what the invalidate itself costs.
void SchemePunch(benchmark::State& state, const SchemeInfo& info) {
  LockEntryTree t(1);
  std::unique_ptr<Scheme> s = info.make(t, 1);
  fill(t, 512);
  for (auto _ : state) {
    InvalidateTicket ticket;
    s->enter_invalidate({Pgoff(16), Pgoff(32)}, Wait::kBlock, nullptr, &ticket);
    s->leave_invalidate(&ticket);
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (const SchemeInfo& s : schemes()) {
    const std::string name(s.name);
    benchmark::RegisterBenchmark(("SchemeFault/" + name).c_str(), [&s](benchmark::State& state) { SchemeFault(state, s); })
        ->ThreadRange(1, 8)
        ->UseRealTime();
    benchmark::RegisterBenchmark(("SchemeBesidePunches/" + name).c_str(),
                                 [&s](benchmark::State& state) { SchemeBesidePunches(state, s); })
        ->ArgName("apart")
        ->Arg(static_cast<int64_t>(kHalf))
        ->Arg(0)
        ->UseRealTime();
    benchmark::RegisterBenchmark(("SchemePunch/" + name).c_str(), [&s](benchmark::State& state) { SchemePunch(state, s); });
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
