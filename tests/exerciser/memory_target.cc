#include "tests/exerciser/memory_target.h"

#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

namespace pmfs::exerciser {

namespace {

// Not the model: one array and a size, zeroed behind it, as a file's pages are.
class Memory final : public Target {
 public:
  bool can(Kind) const override { return true; }
  void reset() override { files_ = {}; }
  uint64_t size(FileIndex f) override { return files_[f.v].size; }
  size_t read(FileIndex f, uint64_t offset, std::span<std::byte> out) override {
    const File& file = files_[f.v];
    if (offset >= file.size) return 0;
    const size_t n = std::min<uint64_t>(out.size(), file.size - offset);
    std::copy_n(file.bytes.data() + offset, n, out.data());
    return n;
  }
  size_t write(FileIndex f, uint64_t offset, std::span<const std::byte> in) override {
    File& file = files_[f.v];
    std::copy_n(in.data(), in.size(), file.bytes.data() + offset);
    file.size = std::max(file.size, offset + in.size());
    return in.size();
  }
  size_t append(FileIndex f, std::span<const std::byte> in) override { return write(f, files_[f.v].size, in); }
  void truncate(FileIndex f, uint64_t size) override {
    File& file = files_[f.v];
    if (size < file.size) zero(file, size, file.size);
    file.size = size;
  }
  void fallocate(FileIndex f, int mode, uint64_t offset, uint64_t length) override {
    File& file = files_[f.v];
    const uint64_t end = offset + length;
    if (mode == FALLOC_FL_COLLAPSE_RANGE) {
      std::memmove(file.bytes.data() + offset, file.bytes.data() + end, file.size - end);
      zero(file, file.size - length, file.size);
      file.size -= length;
    } else if (mode == FALLOC_FL_INSERT_RANGE) {
      std::memmove(file.bytes.data() + end, file.bytes.data() + offset, file.size - offset);
      zero(file, offset, end);
      file.size += length;
    } else {
      if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) zero(file, offset, std::min(end, file.size));
      if (!(mode & FALLOC_FL_KEEP_SIZE)) file.size = std::max(file.size, end);
    }
  }
  size_t copy(FileIndex from, uint64_t offset, FileIndex to, uint64_t to_offset, uint64_t length) override {
    std::vector<std::byte> data(length);
    const size_t n = read(from, offset, data);
    return write(to, to_offset, std::span(data).first(n));
  }
  void clone(FileIndex from, uint64_t offset, FileIndex to, uint64_t to_offset, uint64_t length) override {
    copy(from, offset, to, to_offset, length);
  }
  int64_t seek(FileIndex f, uint64_t offset, int whence) override {
    if (offset >= files_[f.v].size) return -1;
    return static_cast<int64_t>(whence == SEEK_DATA ? offset : files_[f.v].size);
  }
  void sync(FileIndex) override {}
  void reopen(FileIndex) override {}
  std::byte* map(FileIndex f) override { return files_[f.v].bytes.data(); }

 private:
  struct File {
    uint64_t size = 0;
    std::array<std::byte, kMaxBytes + 64 * kPage> bytes{};
  };
  static void zero(File& f, uint64_t from, uint64_t to) {
    if (from < to) std::memset(f.bytes.data() + from, 0, to - from);
  }
  std::array<File, kFiles> files_;
};

}  // namespace

std::unique_ptr<Target> memory_target() { return std::make_unique<Memory>(); }

}  // namespace pmfs::exerciser
