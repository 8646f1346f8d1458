// A client that speaks the protocol by hand, rightly or wrongly: one step at a time, every word its own choice.
#pragma once

#include <memory>
#include <string>

#include "pmfs/base/unique_fd.h"
#include "pmfs/proto/control.h"
#include "pmfs/proto/ring.h"

namespace pmfs::test {

// Connects to the manager of the volume in directory `volume`. Throws std::runtime_error.
UniqueFd raw_socket(const std::string& volume, const char* socket_name = proto::kSocketName);

class RawClient {
 public:
  // Connects and shakes hands: hello, userfaultfd. Throws std::runtime_error if the manager refuses.
  explicit RawClient(const std::string& volume, const char* socket_name = proto::kSocketName);

  // Writes the request into the slot, rings if the manager sleeps, and waits for the answer: at most 20 s.
  proto::Reply ask(uint32_t slot, const proto::Request& r);
  proto::Reply ask(proto::Op op, const std::string& path1 = "", uint64_t a0 = 0, uint64_t a1 = 0);
  void ring_bell();
  std::string message(uint32_t slot, const proto::Reply& r) const;  // that came with an error

  UniqueFd socket, uffd, region, doorbell;
  std::unique_ptr<proto::Ring> ring;
  proto::HelloReply welcome{};
};

}  // namespace pmfs::test
