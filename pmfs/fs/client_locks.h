// ClientLocks: which clients are alive, by something that the kernel releases when they die.
//
// Each client holds a lock on one byte of DIR/clients, as an open-file-description (read) lock: the manager takes it on a
// description of its own and gives that to the client (SCM_RIGHTS), keeping none. So there is no moment when a client
// has anything without the lock, no client can forget to take it, and it ends with the client's last copy of the fd,
// however the client ends. A pid would say nothing: it may be another process' by now.
//
// Bytes are never used twice: mount epoch * 2^32 + number of the client, + 2^31 if it maps blocks directly: the next manager must
// know that of a client that has not come to it. Not thread-safe but for the const members.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <vector>

#include <sys/types.h>

#include "pmfs/base/unique_fd.h"

namespace pmfs {

class ClientLocks {
 public:
  // Opens (or makes) DIR/clients. Throws Error.
  ClientLocks(const std::filesystem::path& dir, uint64_t epoch);

  struct Life {
    UniqueFd fd;  // holds the lock
    uint64_t byte;
  };
  // A locked byte nobody has had, to be given away to a client that maps blocks directly, or not. Throws Error(EMFILE...).
  Life grant(bool direct);
  // Does anybody hold this byte?
  bool held(uint64_t byte) const;
  // Processes that hold it, as far as /proc lets us see: none known, or several after a fork.
  std::vector<pid_t> holders(uint64_t byte) const;
  struct Held {
    uint64_t byte;
    bool direct;  // said by the number. A client that locks more than its byte is taken for one
  };
  // All bytes that are held now, by whatever manager they were given.
  std::vector<Held> all_held() const;

 private:
  bool first_held(uint64_t from, uint64_t end, uint64_t* byte, uint64_t* count) const;
  const std::filesystem::path path_;
  UniqueFd fd_;  // holds no lock itself
  std::array<uint64_t, 2> next_;  // [direct]
};

}  // namespace pmfs
