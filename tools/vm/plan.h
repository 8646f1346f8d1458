// What one worker of a power-cut test does to its own directory, and what must be there afterwards: both follow from a seed, so that
// all that has to leave the guest is how many operations were acknowledged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace pmfs::powercut {

enum class Kind : uint8_t { kCreate, kWrite, kAppend, kTruncate, kPunch, kStorePersist, kStoreFsync, kRename, kUnlink, kMkdir, kRmdir };

struct Op {
  Kind kind = Kind::kCreate;
  std::string path, other;            // below the worker's directory; other: the new name
  uint64_t offset = 0, length = 0;    // bytes; of a truncate: length is the size
  uint64_t stamp = 0;                 // what data it writes is made of
};
std::string to_string(const Op& op);
// Byte i of what an operation with this stamp writes; never 0.
std::byte byte_of(uint64_t stamp, uint64_t i);

struct State {
  std::map<std::string, std::vector<std::byte>> files;
  std::set<std::string> directories;
  bool operator==(const State&) const = default;
};

// Operation after operation, each of which makes sense after those before it and changes something.
class Plan {
 public:
  Plan(uint64_t seed, unsigned worker);
  Op next();  // and state() is what it leaves
  const State& state() const { return state_; }

 private:
  std::optional<Op> propose();
  void apply(const Op& op);

  static constexpr uint64_t kMaxBytes = 16 * 4096;
  std::mt19937_64 random_;
  uint64_t stamps_;
  State state_;
};

// Nothing if `found` is what a cut may leave during `op`, which turns `before` into `after` (docs/durability.md); else what is wrong.
std::optional<std::string> judge(const State& found, const State& before, const State& after, const Op& op);

}  // namespace pmfs::powercut
