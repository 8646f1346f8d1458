// The files of a volume as a power cut leaves them: two files in a directory, changed line by line and changed back.
#pragma once

#include <filesystem>
#include <vector>

#include "tools/crash/recorder.h"

namespace pmfs::crash {

// One thread. Throws pmfs::Error if the files can't be made.
class Image {
 public:
  // Copies DIR/meta and DIR/data of `from` into a directory of its own; data at least so long, with zeros behind.
  Image(const std::filesystem::path& dir, const std::filesystem::path& from, size_t data_bytes = 0);
  ~Image();
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  void set(LineId id, const LineBytes& bytes);
  void zero(const ZeroedRange& r);
  // Everything a step made durable.
  void advance(const Step& s);
  // Changes from mark() on are taken back by back_to().
  size_t mark() const { return undo_.size(); }
  void back_to(size_t mark);

  // Identifies the contents: equal for equal contents, whatever way they came about.
  uint64_t hash() const { return hash_; }
  const std::filesystem::path& dir() const { return dir_; }
  std::byte* bytes(Area a) { return area_[static_cast<size_t>(a)].base; }
  size_t size(Area a) const { return area_[static_cast<size_t>(a)].bytes; }

 private:
  struct Mapped {
    std::byte* base = nullptr;
    size_t bytes = 0;
  };
  void map(Area a, const std::filesystem::path& from, size_t least);
  const std::filesystem::path dir_;
  Mapped area_[kAreas];
  std::vector<LineContent> undo_;
  uint64_t hash_ = 0;
};

uint64_t hash_of(LineId id, const std::byte* line);

}  // namespace pmfs::crash
