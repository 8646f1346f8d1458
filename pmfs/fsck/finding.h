// What fsck finds: a sentence, and where.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace pmfs::fsck {

struct Finding {
  std::string what;  // "extent", "name", "link count", ...: one word or two per kind of damage
  uint64_t ino = 0;  // 0: of no inode
  std::string path;  // of the inode, where it has a name
  std::optional<uint64_t> block;
  std::string text;  // the cause, and what a repair does about it
};

// Of a phase: its name, done and total in units of its own.
using Progress = std::function<void(const char* phase, uint64_t done, uint64_t total)>;

}  // namespace pmfs::fsck
