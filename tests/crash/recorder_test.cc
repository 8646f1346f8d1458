// The recorder against the rules of the model: what may be lost at a cut, and what may not.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstring>

#include <sys/mman.h>

#include "tools/crash/cuts.h"
#include "tools/crash/recorder.h"

using namespace pmfs::crash;

namespace {

constexpr size_t kBytes = 64 * 1024;

struct Memory {
  std::byte* base = static_cast<std::byte*>(
      ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  Recorder recorder;
  explicit Memory(Sabotage s = Sabotage::kNone) : recorder(s) {
    recorder.add_area(Area::kMeta, base, kBytes);
    recorder.begin_op(0);
  }
  ~Memory() {
    recorder.remove_area(Area::kMeta);
    ::munmap(base, kBytes);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void store(size_t line, int value, size_t bytes = 64) { std::memset(base + line * 64, value, bytes); }
  void flush(size_t line, size_t lines = 1) { recorder.flush(base + line * 64, lines * 64); }
};

std::vector<size_t> lines_of(const Step& s) {
  std::vector<size_t> out;
  for (const auto& l : s.pending) out.push_back(l.id.number);
  return out;
}

TEST_CASE("a store is pending until it is flushed and a fence follows") {
  Memory m;
  m.store(3, 1);
  m.recorder.fence();  // not flushed: stays pending
  m.flush(3);
  m.recorder.end_op();  // flushed, not fenced
  m.recorder.fence();
  m.recorder.end_op();
  auto steps = m.recorder.take();
  REQUIRE(steps.size() == 4);
  CHECK(lines_of(steps[0]) == std::vector<size_t>{3});
  CHECK(steps[0].durable.empty());
  CHECK(steps[1].done);
  CHECK(lines_of(steps[1]) == std::vector<size_t>{3});
  REQUIRE(steps[2].durable.size() == 1);
  CHECK(steps[2].durable[0].bytes[5] == std::byte{1});
  CHECK(steps[3].pending.empty());
}

TEST_CASE("a store after the flush is not made durable by it") {
  Memory m;
  m.store(0, 1);
  m.flush(0);
  m.store(0, 2);
  m.recorder.fence();
  m.recorder.end_op();
  auto steps = m.recorder.take();
  REQUIRE(steps.size() == 2);
  REQUIRE(steps[0].pending[0].versions.size() == 2);
  CHECK(steps[0].durable[0].bytes[0] == std::byte{1});
  REQUIRE(lines_of(steps[1]) == std::vector<size_t>{0});
  CHECK(steps[1].pending[0].versions == std::vector<LineBytes>{[] { LineBytes b; b.fill(std::byte{2}); return b; }()});
}

TEST_CASE("stores that nobody flushes are seen all the same, in whatever page") {
  Memory m;
  m.store(1, 7, 8);
  m.store(1000, 8, 1);
  m.flush(2);
  m.recorder.fence();
  auto steps = m.recorder.take();
  REQUIRE(steps.size() == 1);
  CHECK(lines_of(steps[0]) == std::vector<size_t>{1, 1000});
}

TEST_CASE("a store of what was there already is none") {
  Memory m;
  m.store(4, 0);
  m.flush(4);
  m.recorder.fence();
  CHECK(m.recorder.take().empty());
}

TEST_CASE("a page is watched again after each fence") {
  Memory m;
  for (int k = 1; k <= 3; ++k) {
    m.store(9, k);
    m.flush(9);
    m.recorder.fence();
  }
  CHECK(m.recorder.take().size() == 3);
}

TEST_CASE("what the kernel zeroes is gone at once; what was pending there too") {
  Memory m;
  m.store(64, 5);
  m.store(1, 6);
  m.recorder.zeroing(Area::kMeta, 4096, 4096);
  std::memset(m.base + 4096, 0, 4096);
  m.recorder.end_op();
  auto steps = m.recorder.take();
  REQUIRE(steps.size() == 2);
  CHECK(lines_of(steps[0]) == std::vector<size_t>{1, 64});
  REQUIRE(steps[0].zeroed.size() == 1);
  CHECK(steps[0].zeroed[0].first.number == 64);
  CHECK(steps[0].zeroed[0].count == 64);
  CHECK(lines_of(steps[1]) == std::vector<size_t>{1});
}

TEST_CASE("lines that an earlier operation left are old until they change") {
  Memory m;
  m.store(1, 1);
  m.store(2, 1);
  m.recorder.end_op();
  m.recorder.begin_op(1);
  m.store(2, 2);
  m.recorder.end_op();
  auto steps = m.recorder.take();
  REQUIRE(steps[1].pending.size() == 2);
  CHECK(steps[1].pending[0].old);
  CHECK_FALSE(steps[1].pending[1].old);
}

TEST_CASE("memory outside of the areas is nobody's business") {
  Memory m;
  int local = 0;
  m.recorder.flush(&local, sizeof local);
  m.recorder.fence();
  CHECK(m.recorder.take().empty());
}

// A step of two new lines and of two that are old.
Step sample(size_t versions) {
  Step s;
  for (uint64_t i = 0; i < 4; ++i) s.pending.push_back({{Area::kMeta, i}, std::vector<LineBytes>(versions), i >= 2});
  return s;
}

TEST_CASE("few lines: every combination, the old ones together") {
  bool complete = false;
  auto all = choices(sample(1), 8, 1, &complete);
  CHECK(complete);
  CHECK(all.size() == 8);
  for (const Choice& c : all) CHECK(c[2] == c[3]);
  std::sort(all.begin(), all.end());
  CHECK(std::adjacent_find(all.begin(), all.end()) == all.end());
}

TEST_CASE("many lines: none, all, each alone, each missing, and others; never one twice") {
  Step s;
  for (uint64_t i = 0; i < 10; ++i) s.pending.push_back({{Area::kMeta, i}, std::vector<LineBytes>(1), false});
  bool complete = true;
  auto some = choices(s, 60, 1, &complete);
  CHECK_FALSE(complete);
  CHECK(some.size() == 60);
  auto has = [&](const Choice& c) { return std::find(some.begin(), some.end(), c) != some.end(); };
  CHECK(has(Choice(10, 0)));
  CHECK(has(Choice(10, 1)));
  for (size_t i = 0; i < 10; ++i) {
    Choice alone(10, 0), without(10, 1);
    alone[i] = 1;
    without[i] = 0;
    CHECK(has(alone));
    CHECK(has(without));
  }
  CHECK(some == choices(s, 60, 1, &complete));
  std::sort(some.begin(), some.end());
  CHECK(std::adjacent_find(some.begin(), some.end()) == some.end());
}

TEST_CASE("nothing pending: one image") {
  bool complete = false;
  CHECK(choices(Step{}, 8, 1, &complete).size() == 1);
  CHECK(complete);
}

}  // namespace
