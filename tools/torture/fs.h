// What a torture worker does to a file system: a pmfs volume through libpmfs, or any mounted one through system
// calls. Errors are thrown as pmfs::Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace torture {

struct FileId {
  uint64_t ino = 0, generation = 0, size = 0;
};

class FsMapping {
 public:
  virtual ~FsMapping() = default;  // unmaps
  std::byte* data = nullptr;
  size_t bytes = 0;
};

class FsFile {
 public:
  virtual ~FsFile() = default;  // closes
  virtual std::unique_ptr<FsMapping> map(uint64_t offset, size_t bytes) = 0;
  virtual size_t read(std::span<std::byte> out, uint64_t offset) = 0;
  virtual void write(std::span<const std::byte> in, uint64_t offset) = 0;
  virtual void append(std::span<const std::byte> in) = 0;
  virtual void truncate(uint64_t size) = 0;
  virtual void punch(uint64_t offset, uint64_t bytes) = 0;
  virtual void zero_range(uint64_t offset, uint64_t bytes) = 0;
  virtual FileId id() = 0;
};

class Fs {
 public:
  virtual ~Fs() = default;
  virtual std::unique_ptr<FsFile> open(const std::string& path, bool create) = 0;  // create: exclusively
  virtual void unlink(const std::string& path) = 0;
  virtual void rename(const std::string& from, const std::string& to) = 0;
};

std::unique_ptr<Fs> make_pmfs_fs(const std::string& volume);
std::unique_ptr<Fs> make_target_fs(const std::string& directory);

}  // namespace torture
