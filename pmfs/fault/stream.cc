#include "pmfs/fault/stream.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <unistd.h>

#include "pmfs/base/unique_fd.h"

namespace pmfs::fault {

void Stream::fault(uint32_t tid) {
  const uint32_t score = score_.load(std::memory_order_relaxed);
  if (tid == tid_.load(std::memory_order_relaxed)) {
    if (score < kHot) score_.store(score + 1, std::memory_order_relaxed);
  } else if (score >= kOther) {
    score_.store(score - kOther, std::memory_order_relaxed);
  } else {
    tid_.store(tid, std::memory_order_relaxed);
    score_.store(0, std::memory_order_relaxed);
    since_.store(kLook, std::memory_order_relaxed);
  }
}

bool Stream::look() {
  if (score_.load(std::memory_order_relaxed) < kHot) return false;
  if (since_.fetch_add(1, std::memory_order_relaxed) < kLook) return false;
  since_.store(0, std::memory_order_relaxed);
  return true;
}

int processor_of(uint32_t tid) {
  const UniqueFd fd(::open(("/proc/" + std::to_string(tid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return -1;
  char text[1024];
  const ssize_t n = ::read(fd.get(), text, sizeof text - 1);
  if (n <= 0) return -1;
  text[n] = '\0';
  // proc(5): field 2 is the name in brackets, which may hold anything; "processor" is field 39.
  const char* at = std::strrchr(text, ')');
  for (int field = 2; at != nullptr && field < 39; ++field) at = std::strchr(at + 1, ' ');
  return at == nullptr ? -1 : std::atoi(at + 1);
}

}  // namespace pmfs::fault
