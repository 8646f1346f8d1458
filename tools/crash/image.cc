#include "tools/crash/image.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pmfs/base/error.h"
#include "pmfs/base/unique_fd.h"

namespace pmfs::crash {

// Source: the finalizer of MurmurHash3, over the words of a line.
uint64_t hash_of(LineId id, const std::byte* line) {
  uint64_t h = id.number * 2 + static_cast<uint64_t>(id.area) + 0x9e3779b97f4a7c15;
  bool zero = true;
  for (size_t i = 0; i < kLineBytes; i += 8) {
    uint64_t w;
    std::memcpy(&w, line + i, 8);
    zero = zero && w == 0;
    h = (h ^ w) * 0xff51afd7ed558ccd;
    h ^= h >> 33;
  }
  return zero ? 0 : h * 0xc4ceb9fe1a85ec53;  // lines of zeros don't count, so that holes need no look
}

Image::Image(const std::filesystem::path& dir, const std::filesystem::path& from, size_t data_bytes) : dir_(dir) {
  std::filesystem::create_directories(dir_);
  map(Area::kMeta, from / "meta", 0);
  map(Area::kData, from / "data", data_bytes);
}

void Image::map(Area a, const std::filesystem::path& from, size_t least) {
  std::filesystem::path path = dir_ / from.filename();
  std::filesystem::remove(path);
  std::filesystem::copy_file(from, path);
  if (std::filesystem::file_size(path) < least) std::filesystem::resize_file(path, least);
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  size_t bytes = std::filesystem::file_size(path);
  void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (!fd || p == MAP_FAILED) fail(errno, "{}: can't map the image: {}", path.string(), std::strerror(errno));
  area_[static_cast<size_t>(a)] = {static_cast<std::byte*>(p), bytes};
}

Image::~Image() {
  for (Mapped& m : area_)
    if (m.base != nullptr) ::munmap(m.base, m.bytes);
  std::error_code ignored;
  std::filesystem::remove_all(dir_, ignored);
}

void Image::set(LineId id, const LineBytes& bytes) {
  Mapped& m = area_[static_cast<size_t>(id.area)];
  std::byte* at = m.base + id.number * kLineBytes;
  LineContent old{id, {}};
  std::memcpy(old.bytes.data(), at, kLineBytes);
  if (old.bytes == bytes) return;
  hash_ ^= hash_of(id, at) ^ hash_of(id, bytes.data());
  undo_.push_back(old);
  std::memcpy(at, bytes.data(), kLineBytes);
}

void Image::zero(const ZeroedRange& r) {
  const LineBytes zeros{};
  for (uint64_t l = 0; l < r.count; ++l) set({r.first.area, r.first.number + l}, zeros);
}

void Image::advance(const Step& s) {
  for (const LineContent& l : s.durable) set(l.id, l.bytes);
  for (const ZeroedRange& r : s.zeroed) zero(r);
}

void Image::back_to(size_t mark) {
  while (undo_.size() > mark) {
    const LineContent& l = undo_.back();
    std::byte* at = area_[static_cast<size_t>(l.id.area)].base + l.id.number * kLineBytes;
    hash_ ^= hash_of(l.id, at) ^ hash_of(l.id, l.bytes.data());
    std::memcpy(at, l.bytes.data(), kLineBytes);
    undo_.pop_back();
  }
}

}  // namespace pmfs::crash
