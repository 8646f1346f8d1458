// FaultAround: how many pages one fault installs, and how many it allocates in a hole. Doubles while faults
// follow each other (up to 16 MiB), halves down to 16 pages when they jump. Several sequential streams in one
// mapping are told apart by a few cursors. Where the neighbours of page after page have their PTEs already (a client
// that drops single pages, say) there is nothing to install around, but for a look now and then.
// Advice only: races between pagers cost nothing but a guess.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "pmfs/base/types.h"

namespace pmfs::fault {

class FaultAround {
 public:
  static constexpr uint64_t kMin = 16, kMax = 4096;  // pages
  static constexpr uint32_t kCrowded = 4;   // faults in a row whose neighbour had its PTE
  static constexpr uint32_t kLook = 16;     // one fault in so many looks again
  struct Window {
    uint64_t install;   // pages of existing blocks to install
    uint64_t allocate;  // pages of a hole to allocate: 1 until there is locality
  };
  Window at(Pgoff p);
  // What the fault at `p` covered in the end: the next one of its stream is expected behind it. `neighbour`: the page
  // behind p had its PTE already.
  void covered(Pgoff p, uint64_t pages, bool neighbour);

 private:
  static constexpr uint64_t kNone = ~uint64_t{0}, kSlack = 64;  // pages
  struct Cursor {
    std::atomic<uint64_t> next{kNone}, window{kMin};
    bool follows(Pgoff p) const;
  };
  static constexpr size_t kCursors = 4;
  std::array<Cursor, kCursors> cursors_;
  std::atomic<uint32_t> victim_{0}, crowded_{0}, faults_{0};
};

}  // namespace pmfs::fault
