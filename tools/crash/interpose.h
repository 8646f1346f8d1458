// Where the explorer gets between pmfs and the media: this program defines the functions of libpmem that libpmemobj
// calls, libpmem2's function getters, mmap, and the seam for punching holes, so that the product is recorded as it is.
#pragma once

#include <cstddef>

#include "tools/crash/recorder.h"

namespace pmfs::crash {

// Which file a mapping belongs to is told by its inode number. One volume at a time.
struct VolumeFiles {
  unsigned long device = 0, meta_inode = 0, data_inode = 0;
};

enum class Mode {
  kPlain,    // the functions do what the library's do, as far as a tmpfs needs it
  kRecord,   // stores to the volume's files go to the recorder
  kPrivate,  // mappings of the volume's files are private: what is stored is gone with the mapping
};

// From now on. `recorder` for kRecord only. Returns nothing that can fail: a file that is not there is never mapped.
void interpose(Mode mode, const VolumeFiles& files, Recorder* recorder);
// How long the region's file is for the code under test, which may change it: the file itself is as long as it can get.
// 0: as it is.
void pretend_data_bytes(uint64_t bytes);
VolumeFiles files_of(const char* meta_path, const char* data_path);

}  // namespace pmfs::crash
