// Finds out which pages of a mapping were stored to, whoever did it and without asking him: pages are write
// protected, the first store to one is a SIGSEGV that notes it and lifts the protection.
//
// One thread stores, and the same one calls the members. Several objects may exist, on disjoint ranges.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pmfs::crash {

class DirtyPages {
 public:
  // `base` and `bytes`: a writable mapping, page aligned, that outlives this object.
  DirtyPages(std::byte* base, size_t bytes);
  ~DirtyPages();  // all pages are writable again
  DirtyPages(const DirtyPages&) = delete;
  DirtyPages& operator=(const DirtyPages&) = delete;

  // Pages stored to since the last call, by number, and protects them again.
  std::vector<size_t> take();
  // Before the kernel is to store there (it would answer EFAULT): counts as stored to.
  void touch(const void* p, size_t bytes);

  bool on_fault(void* address);  // of the signal handler

 private:
  void mark(size_t page);
  std::byte* base_;
  size_t pages_;
  std::vector<uint8_t> dirty_;
  std::vector<size_t> list_;  // never grows beyond its capacity, so that the handler may append
};

}  // namespace pmfs::crash
