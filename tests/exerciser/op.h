// Op: one operation of the exerciser on one or two of its files, and its line of text: a list of lines replays a run.
//
// What an operation means depends on nothing but the files at that point: one that makes no sense there (a collapse
// behind the end) is left out, so that any part of a list is a list too, and failures can be shrunk.
#pragma once

#include <cstdint>
#include <istream>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace pmfs::exerciser {

enum class Kind : uint8_t {
  kRead, kWrite, kAppend, kTruncate, kPunch, kZero, kZeroGrow, kAllocate, kAllocateKeep, kCollapse, kInsert, kCopy, kClone,
  kSeek, kMapRead, kMapWrite, kSync, kReopen,
};
inline constexpr unsigned kKinds = 18;

struct FileIndex {
  uint8_t v = 0;
  bool operator==(const FileIndex&) const = default;
};
inline constexpr unsigned kFiles = 2;
inline constexpr uint64_t kPage = 4096;
inline constexpr uint64_t kMaxBytes = 64 * kPage;  // of a file: small, so that operations meet

struct Op {
  Kind kind = Kind::kRead;
  FileIndex file, other;                           // other: where a copy or clone goes
  uint64_t offset = 0, length = 0, other_offset = 0;  // bytes
  uint64_t seed = 0;                               // of the bytes written
  bool operator==(const Op&) const = default;
};

const char* name(Kind k);
std::string to_string(const Op& op);
// A line of to_string(). Empty: it is none.
std::optional<Op> parse(const std::string& line);
std::vector<Op> parse_all(std::istream& in);  // throws std::runtime_error naming the line; skips # and empty lines

Op random_op(std::mt19937_64& random);

// The bytes that a write with this seed writes: byte i of them.
std::vector<std::byte> bytes_of(uint64_t seed, uint64_t length);

}  // namespace pmfs::exerciser
