// The two sides of the comparison behind one interface: a file on a pmfs volume, a file on the kernel's tmpfs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace pmfs::bench {

enum class Side { kPmfs, kTmpfs };
inline constexpr Side kSides[] = {Side::kPmfs, Side::kTmpfs};
inline const char* name_of(Side s) { return s == Side::kPmfs ? "pmfs" : "tmpfs"; }

struct Places {
  std::filesystem::path volume, tmpfs;  // a volume some process serves; a directory on a tmpfs
};

class TestFile {
 public:
  virtual ~TestFile() = default;
  virtual std::byte* map(size_t length) = 0;  // from 0, writable, shared; once; unmapped with the file
  virtual void truncate(uint64_t size) = 0;
  virtual void allocate(uint64_t size) = 0;  // fallocate
  virtual void punch(uint64_t offset, uint64_t length) = 0;
  virtual void write(std::span<const std::byte> in, uint64_t offset) = 0;
  virtual void read(std::span<std::byte> out, uint64_t offset) = 0;
  // The memory of [0, length), all of it there, once more through an ordinary mapping of the kernel's; stays until the process ends.
  virtual std::byte* map_plainly(size_t length) = 0;
};

// Opens (makes) a file of this name. To be called in the process that uses it: it becomes a client of the volume.
std::unique_ptr<TestFile> open_file(const Places& places, Side side, const std::string& name);
// pmfs::persist(): flushes the cache lines and drains. For memory of either side.
void persist_lines(const void* p, size_t bytes);
void remove_file(const Places& places, Side side, const std::string& name);

}  // namespace pmfs::bench
