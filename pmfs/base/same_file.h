// Whether two descriptors are of one file.
#pragma once

#include <sys/stat.h>

namespace pmfs {

// Borrows both. False if one is none.
inline bool same_file(int a, int b) {
  struct stat x {}, y {};
  return ::fstat(a, &x) == 0 && ::fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

}  // namespace pmfs
