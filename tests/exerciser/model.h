// Model: what the files of the exerciser should be, in plain memory.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "tests/exerciser/op.h"

namespace pmfs::exerciser {

class Model {
 public:
  // Whether the operation means something for the files as they are. Reading at or behind the end does; a mapped access
  // must be inside of the file.
  bool valid(const Op& op) const;
  void apply(const Op& op);  // a valid one
  uint64_t size(FileIndex f) const { return at(f).size(); }
  std::span<const std::byte> bytes(FileIndex f, uint64_t offset, uint64_t length) const;  // as many as there are

 private:
  using Bytes = std::vector<std::byte>;
  const Bytes& at(FileIndex f) const { return files_[f.v]; }
  void put(Bytes& to, uint64_t offset, std::span<const std::byte> data);
  std::array<Bytes, kFiles> files_;
};

}  // namespace pmfs::exerciser
