// FaultAround: how many pages one fault installs, and how many it allocates in a hole. Doubles while faults
// follow each other (up to 16 MiB), halves down to 16 pages when they jump. Several sequential streams in one
// mapping are told apart by a few cursors. Advice only: races between pagers cost nothing but a guess.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "pmfs/base/types.h"

namespace pmfs::fault {

class FaultAround {
 public:
  static constexpr uint64_t kMin = 16, kMax = 4096;  // pages
  struct Window {
    uint64_t install;   // pages of existing blocks to install
    uint64_t allocate;  // pages of a hole to allocate: 1 until there is locality
  };
  Window at(Pgoff p);
  // What the fault at `p` covered in the end: the next one of its stream is expected behind it.
  void covered(Pgoff p, uint64_t pages);

 private:
  struct Cursor {
    std::atomic<uint64_t> next{~uint64_t{0}}, window{kMin};
  };
  static constexpr size_t kCursors = 4;
  std::array<Cursor, kCursors> cursors_;
  std::atomic<uint32_t> victim_{0};
};

}  // namespace pmfs::fault
