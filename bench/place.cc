#include "bench/place.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "pmfs/pmfs.hpp"

namespace pmfs::bench {
namespace {

[[noreturn]] void sys_fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

class PmfsFile final : public TestFile {
 public:
  PmfsFile(const std::string& volume, const std::string& name)
      : region_(volume + "/data"), file_(Volume(volume).open("/" + name, O_RDWR | O_CREAT, 0600)) {}
  std::byte* map(size_t length) override {
    map_ = file_.map(0, length);
    return map_.data();
  }
  void truncate(uint64_t size) override { file_.truncate(size); }
  void allocate(uint64_t size) override { file_.preallocate(0, size); }
  void punch(uint64_t offset, uint64_t length) override { file_.punch(offset, length); }
  void write(std::span<const std::byte> in, uint64_t offset) override {
    if (file_.write(in, offset) != in.size()) throw std::runtime_error("short write");
  }
  void read(std::span<std::byte> out, uint64_t offset) override {
    if (file_.read(out, offset) != out.size()) throw std::runtime_error("short read");
  }
  std::byte* map_plainly(size_t length) override {
    constexpr size_t kPage = 4096;
    const int fd = ::open(region_.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) sys_fail(region_.c_str());
    auto* base = static_cast<std::byte*>(::mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base == MAP_FAILED) sys_fail("mmap");
    size_t mapped = 0;
    for (const ExtentInfo& e : file_.extents()) {
      if (e.pgoff * kPage >= length) break;
      const size_t bytes = std::min(e.count * kPage, length - e.pgoff * kPage);
      if (::mmap(base + e.pgoff * kPage, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                 static_cast<off_t>(e.pfn * kPage)) == MAP_FAILED)
        sys_fail("mmap");
      mapped += bytes;
    }
    ::close(fd);
    if (mapped != length) throw std::runtime_error("the file has holes");
    return base;
  }

 private:
  const std::string region_;
  File file_;
  Mapping map_;
};

class TmpfsFile final : public TestFile {
 public:
  explicit TmpfsFile(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    if (fd_ < 0) sys_fail(path.c_str());
  }
  ~TmpfsFile() override {
    if (length_ != 0) ::munmap(map_, length_);
    ::close(fd_);
  }
  std::byte* map(size_t length) override {
    map_ = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd_, 0);
    if (map_ == MAP_FAILED && errno == EOPNOTSUPP)  // no DAX
      map_ = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (map_ == MAP_FAILED) sys_fail("mmap");
    length_ = length;
    return static_cast<std::byte*>(map_);
  }
  void truncate(uint64_t size) override {
    if (::ftruncate(fd_, static_cast<off_t>(size)) != 0) sys_fail("ftruncate");
  }
  void allocate(uint64_t size) override {
    if (::fallocate(fd_, 0, 0, static_cast<off_t>(size)) != 0) sys_fail("fallocate");
  }
  void punch(uint64_t offset, uint64_t length) override {
    const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (::fallocate(fd_, mode, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) sys_fail("punch");
  }
  void write(std::span<const std::byte> in, uint64_t offset) override {
    const ssize_t n = ::pwrite(fd_, in.data(), in.size(), static_cast<off_t>(offset));
    if (n != static_cast<ssize_t>(in.size())) sys_fail("pwrite");
  }
  void read(std::span<std::byte> out, uint64_t offset) override {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (n != static_cast<ssize_t>(out.size())) sys_fail("pread");
  }
  std::byte* map_plainly(size_t length) override {
    void* p = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (p == MAP_FAILED) sys_fail("mmap");
    return static_cast<std::byte*>(p);
  }

 private:
  int fd_;
  void* map_ = nullptr;
  size_t length_ = 0;
};

}  // namespace

std::unique_ptr<TestFile> open_file(const Places& places, Side side, const std::string& name) {
  if (side == Side::kPmfs) return std::make_unique<PmfsFile>(places.volume.string(), name);
  return std::make_unique<TmpfsFile>((places.tmpfs / name).string());
}

void persist_lines(const void* p, size_t bytes) { persist(p, bytes); }

void remove_file(const Places& places, Side side, const std::string& name) {
  if (side == Side::kPmfs) {
    Volume(places.volume.string()).unlink("/" + name);
  } else if (::unlink((places.tmpfs / name).c_str()) != 0) {
    sys_fail("unlink");
  }
}

}  // namespace pmfs::bench
