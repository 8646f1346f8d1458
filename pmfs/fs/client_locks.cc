#include "pmfs/fs/client_locks.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmfs/base/error.h"

namespace pmfs {

namespace {

constexpr uint64_t kEnd = uint64_t{1} << 62;  // behind every byte that is ever given
constexpr unsigned kEpochShift = 32;
constexpr uint64_t kDirect = uint64_t{1} << 31;

struct flock range(short type, uint64_t first, uint64_t end) {
  struct flock l {};
  l.l_type = type;
  l.l_whence = SEEK_SET;
  l.l_start = static_cast<off_t>(first);
  l.l_len = static_cast<off_t>(end - first);
  return l;
}

}  // namespace

ClientLocks::ClientLocks(const std::filesystem::path& dir, uint64_t epoch)
    : path_(dir / "clients"),
      fd_(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)),
      next_{(epoch << kEpochShift) + 1, (epoch << kEpochShift) + kDirect} {
  if (!fd_) fail(errno, "{}: can't be opened: {}", path_.string(), std::strerror(errno));
}

ClientLocks::Life ClientLocks::grant(bool direct) {
  uint64_t& next = next_[direct ? 1 : 0];
  // By way of /proc: the same file, whatever has become of its name.
  UniqueFd fd(::open(("/proc/self/fd/" + std::to_string(fd_.get())).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) fail(errno, "{}: can't be opened for a client: {}", path_.string(), std::strerror(errno));
  while (held(next)) ++next;  // by somebody who locked what is not his
  struct flock l = range(F_RDLCK, next, next + 1);
  if (::fcntl(fd.get(), F_OFD_SETLK, &l) != 0)
    fail(errno, "{}: can't lock byte {}: {}", path_.string(), next, std::strerror(errno));
  return {std::move(fd), next++};
}

bool ClientLocks::first_held(uint64_t from, uint64_t end, uint64_t* byte, uint64_t* count) const {
  struct flock l = range(F_WRLCK, from, end);
  if (::fcntl(fd_.get(), F_OFD_GETLK, &l) != 0)
    fail(errno, "{}: can't look for locks: {}", path_.string(), std::strerror(errno));
  if (l.l_type == F_UNLCK) return false;
  *byte = static_cast<uint64_t>(l.l_start);
  *count = l.l_len == 0 ? end - *byte : static_cast<uint64_t>(l.l_len);
  return true;
}

bool ClientLocks::held(uint64_t byte) const {
  uint64_t at, count;
  return first_held(byte, byte + 1, &at, &count);
}

// /proc/PID/fdinfo/N has a line for each lock of that description:
//   lock:  1: OFDLCK ADVISORY  READ -1 00:1a:4711 4294967297 4294967297
std::vector<pid_t> ClientLocks::holders(uint64_t byte) const {
  struct stat st;
  if (::fstat(fd_.get(), &st) != 0) return {};
  const std::string ours = fmt::format(":{} {} ", st.st_ino, byte);
  std::vector<pid_t> out;
  std::error_code ignored;
  for (const auto& process : std::filesystem::directory_iterator("/proc", ignored)) {
    const pid_t pid = std::atoi(process.path().filename().c_str());
    if (pid <= 0) continue;
    for (const auto& fd : std::filesystem::directory_iterator(process.path() / "fdinfo", ignored)) {
      std::ifstream in(fd.path());
      bool mine = false;
      for (std::string line; !mine && std::getline(in, line);)
        mine = line.rfind("lock:", 0) == 0 && line.find("OFDLCK") != std::string::npos && line.find(ours) != std::string::npos;
      if (!mine) continue;
      out.push_back(pid);
      break;
    }
  }
  return out;
}

// The kernel tells of any one lock in a range, not of the first: what is left of it and right of it is asked next. A
// client that locks more than its byte counts once.
std::vector<ClientLocks::Held> ClientLocks::all_held() const {
  std::vector<Held> out;
  std::vector<std::pair<uint64_t, uint64_t>> todo{{0, kEnd}};
  while (!todo.empty()) {
    auto [from, end] = todo.back();
    todo.pop_back();
    uint64_t byte, count;
    if (from >= end || !first_held(from, end, &byte, &count)) continue;
    const uint64_t first = std::max(byte, from);
    out.push_back({first, count != 1 || (first & kDirect) != 0});
    todo.emplace_back(from, first);
    if (count < end - first) todo.emplace_back(std::max(byte + count, first + 1), end);
  }
  std::sort(out.begin(), out.end(), [](const Held& a, const Held& b) { return a.byte < b.byte; });
  return out;
}

}  // namespace pmfs
