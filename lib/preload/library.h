// libpmfs.so, loaded at the first mapping of a file on pmfs: a program that never maps one does not pay for it, and has
// none of the C++ library that it needs.
#pragma once

#include "lib/preload_api.h"
#include "pmfs/pmfs.h"

namespace pmfs::preload {

struct Library {
  decltype(&pmfs_preload_map) map;
  decltype(&pmfs_preload_mapped) mapped;
  decltype(&pmfs_preload_release) release;
  decltype(&pmfs_mprotect) mprotect;
  decltype(&pmfs_mremap) mremap;
  decltype(&pmfs_msync) msync;
  decltype(&pmfs_madvise) madvise;
  decltype(&pmfs_strerror) strerror;
};

// Null: it can't be loaded; a warning says why. From beside this library, or where the dynamic linker looks.
const Library* library();
// The same if it is loaded already: null, nothing is mapped.
const Library* loaded_library();

// Around each call of the library: what it does to memory is not for us. (It makes raw system calls, but an allocator that
// the program brings along does not.)
class Inside {
 public:
  Inside() { ++depth; }
  ~Inside() { --depth; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  static bool here() { return depth != 0; }

 private:
  [[gnu::tls_model("initial-exec")]] static thread_local constinit unsigned depth;
};

}  // namespace pmfs::preload
