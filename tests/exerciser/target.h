// Target: the seam between the exerciser and what it exercises. Members do what the system call of that name does and
// throw std::system_error where it fails; all are for one thread.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tests/exerciser/op.h"

namespace pmfs::exerciser {

class Target {
 public:
  virtual ~Target() = default;
  virtual bool can(Kind k) const = 0;
  virtual void reset() = 0;  // all files there, open, empty and without blocks
  virtual uint64_t size(FileIndex f) = 0;
  virtual size_t read(FileIndex f, uint64_t offset, std::span<std::byte> out) = 0;
  virtual size_t write(FileIndex f, uint64_t offset, std::span<const std::byte> in) = 0;
  virtual size_t append(FileIndex f, std::span<const std::byte> in) = 0;
  virtual void truncate(FileIndex f, uint64_t size) = 0;
  virtual void fallocate(FileIndex f, int mode, uint64_t offset, uint64_t length) = 0;
  virtual size_t copy(FileIndex from, uint64_t offset, FileIndex to, uint64_t to_offset, uint64_t length) = 0;
  virtual void clone(FileIndex from, uint64_t offset, FileIndex to, uint64_t to_offset, uint64_t length) = 0;
  virtual int64_t seek(FileIndex f, uint64_t offset, int whence) = 0;  // -1: ENXIO
  virtual void sync(FileIndex f) = 0;
  virtual void reopen(FileIndex f) = 0;
  // kMaxBytes of the file, mapped shared; stays until reopen().
  virtual std::byte* map(FileIndex f) = 0;
};

std::unique_ptr<Target> directory_target(const std::string& dir, bool must_map);  // must_map: throws if it can't map
std::unique_ptr<Target> native_target(const std::string& volume);
// Each operation goes to one of them, by its seed, or to the first that can. They must be two ways to the same files.
std::unique_ptr<Target> mixed_target(std::vector<std::unique_ptr<Target>> ways);
// A target with a mistake of ours, to see it caught: planted_bugs() has the names. Null: no such bug.
std::unique_ptr<Target> planted_target(std::unique_ptr<Target> t, const std::string& bug);
std::vector<std::string> planted_bugs();

// What mixed_target goes by: the operation that comes now.
void set_turn(uint64_t seed);
uint64_t turn();

}  // namespace pmfs::exerciser
