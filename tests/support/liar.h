// Liar: a client of the protocol that does what it must not, a random step at a time: out of turn, twice, with wrong generations, with
// descriptors of the wrong kind, claiming what it has not done, changing words while they are read. It keeps what it is given, so
// that it gets deep. It never names a file but its own: /liar*.
#pragma once

#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/raw_client.h"

namespace pmfs::test {

class Liar {
 public:
  Liar(std::string volume, uint64_t seed) : volume_(std::move(volume)), rng_(seed) {}
  ~Liar();
  void run(uint64_t steps);

 private:
  struct Range {
    uint64_t va, bytes;
  };
  void join();
  void leave();
  void step();
  void request();
  void control();
  void map();
  void unmap();
  void act_as_agent();
  void lie_about_agent();
  void resolve_faults();
  void touch();
  void hand_over();
  void bomb();
  void drain_socket();
  bool say(proto::Control type, std::span<std::byte> message, std::span<const int> fds = {});
  template <class T>
  bool say(proto::Control type, T message, std::span<const int> fds = {}) {
    return say(type, std::as_writable_bytes(std::span(&message, 1)), fds);
  }
  UniqueFd descriptor();  // of some kind
  uint64_t number();
  uint64_t any_of(const std::vector<uint64_t>& known);
  uint64_t roll(uint64_t n) { return rng_() % n; }

  const std::string volume_;
  std::mt19937_64 rng_;
  UniqueFd socket_, uffd_, doorbell_, region_, ring_fd_, former_ring_;
  std::unique_ptr<proto::Ring> ring_;
  uint64_t seen_command_ = 0;
  std::vector<uint64_t> handles_, known_, tokens_;
  std::vector<Range> ranges_;
  std::thread changer_;
  std::atomic<bool> stop_{false};
};

}  // namespace pmfs::test
