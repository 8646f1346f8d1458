// A client as a fuzzer plays it: any message, any word of the ring, at any time; but it knows the protocol's states, and keeps
// the handles, ids and tokens that it was given, so that it gets anywhere.
#pragma once

#include <span>

#include "pmfs/proto/control.h"
#include "tests/fuzz/world.h"

namespace pmfs::fuzz {

// Reads the input; zeros when it is at its end.
class Input {
 public:
  Input(const uint8_t* data, size_t bytes) : data_(data), left_(bytes) {}
  bool done() const { return left_ == 0; }
  uint8_t byte();
  void bytes(void* to, size_t n);
  uint64_t number();  // one that matters, or any

 private:
  const uint8_t* data_;
  size_t left_;
};

class Peer {
 public:
  Peer(World& world, bool root);
  ~Peer();
  Peer(const Peer&) = delete;
  void greet(uint64_t token, int ring_fd);  // hello, userfaultfd: to be ready
  void step(Input& in);
  int ring_fd() const { return ring_fd_.get(); }
  uint64_t token() const { return tokens_.empty() ? 0 : tokens_.back(); }
  bool ended() const { return session_->ended(); }

 private:
  void control(std::span<const std::byte> message, std::span<const int> fds);
  void on_control(proto::ControlMessage& m);
  void typed_control(Input& in);
  void request(Input& in, bool raw);
  void fault(Input& in);
  void scribble(Input& in);
  std::string path(Input& in);
  uint64_t argument(Input& in);
  uint32_t handle(Input& in);
  UniqueFd userfaultfd() const;

  World& world_;
  UniqueFd ours_, ring_fd_;
  std::unique_ptr<proto::Ring> ring_;  // the client's mapping of it
  std::shared_ptr<server::Session> session_;
  std::vector<uint32_t> handles_;
  std::vector<uint64_t> tokens_, known_;  // known_: ids, inode numbers, generations
};

}  // namespace pmfs::fuzz
