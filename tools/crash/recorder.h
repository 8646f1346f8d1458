// Records what reaches the media: every store (found by comparing lines), flush and fence on the two files of a
// volume. The result is a list of steps: at each, which lines a power cut may or may not keep, and in which contents.
//
// The model is x86's with clwb and sfence: a store is durable once its line was flushed after it and a fence came
// after the flush; a line that is not durable yet may be so all the same (evicted), at any content it had in between.
// Source of the method: yat (Lantz et al., ATC 2014), pmreorder; the contents per line are seen here at every flush
// and fence, without instrumentation of the stores.
//
// One thread; the mappings are its.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "tools/crash/dirty_pages.h"
#include "tools/crash/line.h"

namespace pmfs::crash {

// A moment at which the power may go: right before a fence (or a hole punched, or the end of an operation).
struct Step {
  uint32_t op = 0;     // index of the operation under way
  bool done = false;   // it has returned: all of it must be durable
  std::vector<PendingLine> pending;
  // What is durable once the step has passed.
  std::vector<LineContent> durable;
  std::vector<ZeroedRange> zeroed;
  uint64_t data_bytes = 0;  // how long the region's file is, if data_bytes() said so
};

// A fault on purpose, to see that the explorer finds it: as if the code had it.
enum class Sabotage : uint8_t {
  kNone,
  kFence,      // one fence of an operation is missing, a different one from one operation to the next
  kLogFlush,   // what is copied into the pool (logs) is not flushed
  kDataFlush,  // file data is not flushed
  kDataOrder,  // file data becomes durable when the operation ends: its metadata first
  kSnapshot,   // some of the undo snapshots are missing (interpose.cc)
  kZap,        // holes are not punched, new blocks not zeroed (interpose.cc)
};

class Recorder {
 public:
  explicit Recorder(Sabotage sabotage = Sabotage::kNone) : sabotage_(sabotage) {}

  // From now on stores to the mapping of a file, all of it, are recorded; its contents are durable.
  void add_area(Area area, std::byte* base, size_t bytes);
  bool has_area(Area area) const { return areas_[static_cast<size_t>(area)] != nullptr; }
  // The mapping goes away; what was not durable stays so for ever.
  void remove_area(Area area);

  void begin_op(uint32_t index);
  void end_op();  // a step: everything that the operation promised must survive a cut from here on

  // Calls on memory outside of the areas are ignored.
  enum class Via : uint8_t { kFlush, kCopy };
  void flush(const void* p, size_t bytes, Via via = Via::kFlush);
  void fence();
  // Before the kernel zeroes that part of the file: at once and durably.
  void zeroing(Area area, uint64_t offset, uint64_t bytes);
  void kernel_will_store(const void* p, size_t bytes);
  // Before the kernel makes the region's file longer or shorter: at once and durably. Also what it is at first.
  void data_bytes(uint64_t bytes);

  std::vector<Step> take() { return std::move(steps_); }
  Sabotage sabotage() const { return sabotage_; }

 private:
  struct Mapped {
    std::byte* base;
    size_t bytes;
    std::vector<std::byte> durable;  // contents that are certain
    DirtyPages dirty;
    Mapped(std::byte* b, size_t n) : base(b), bytes(n), durable(b, b + n), dirty(b, n) {}
  };
  struct Pending {
    std::vector<LineBytes> versions;
    size_t flushed = 0;  // so many of them are durable after the next fence
    uint32_t epoch = 0;  // of the last change
  };
  Mapped* find(const void* p, Area* area);
  void capture(Area area, Mapped& m, uint64_t line);
  void capture_dirty();
  void add_step(bool done);
  void retire();

  const Sabotage sabotage_;
  std::unique_ptr<Mapped> areas_[kAreas];
  std::map<LineId, Pending> pending_;
  std::vector<Step> steps_;
  uint32_t op_ = 0;
  uint32_t epoch_ = 0;  // counts operations
  uint32_t fences_ = 0;  // of this operation
  uint64_t data_bytes_ = 0;
};

}  // namespace pmfs::crash
