// Any mounted file system, through system calls: the same torture for tmpfs, ext4, xfs.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include <fmt/format.h>

#include "pmfs/base/error.h"
#include "tools/torture/fs.h"

namespace torture {
namespace {

void check(bool ok, const char* what, const std::string& path) {
  if (!ok) pmfs::fail(errno, "{} {}: {}", what, path, std::strerror(errno));
}

class TargetMapping : public FsMapping {
 public:
  TargetMapping(void* p, size_t n) {
    data = static_cast<std::byte*>(p);
    bytes = n;
  }
  ~TargetMapping() override { munmap(data, bytes); }
};

class TargetFile : public FsFile {
 public:
  TargetFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~TargetFile() override { ::close(fd_); }

  std::unique_ptr<FsMapping> map(uint64_t offset, size_t bytes) override {
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, static_cast<off_t>(offset));
    check(p != MAP_FAILED, "mmap", path_);
    return std::make_unique<TargetMapping>(p, bytes);
  }
  size_t read(std::span<std::byte> out, uint64_t offset) override {
    ssize_t n = pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    check(n >= 0, "read", path_);
    return static_cast<size_t>(n);
  }
  void write(std::span<const std::byte> in, uint64_t offset) override {
    while (!in.empty()) {
      ssize_t n = pwrite(fd_, in.data(), in.size(), static_cast<off_t>(offset));
      check(n > 0, "write", path_);
      in = in.subspan(static_cast<size_t>(n));
      offset += static_cast<uint64_t>(n);
    }
  }
  void append(std::span<const std::byte> in) override {
    // A second open file description, since O_APPEND would move the pwrites of this one too.
    int fd = ::open(fmt::format("/proc/self/fd/{}", fd_).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    check(fd >= 0, "open for appending", path_);
    ssize_t n = ::write(fd, in.data(), in.size());
    int err = errno;
    ::close(fd);
    errno = err;
    check(n >= 0, "append", path_);
  }
  void truncate(uint64_t size) override { check(ftruncate(fd_, static_cast<off_t>(size)) == 0, "truncate", path_); }
  void punch(uint64_t offset, uint64_t bytes) override {
    allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch", offset, bytes);
  }
  void zero_range(uint64_t offset, uint64_t bytes) override {
    allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, "zero_range", offset, bytes);
  }
  FileId id() override {
    struct stat st{};
    check(fstat(fd_, &st) == 0, "stat", path_);
    // No generation: the worker looks at the slot's incarnation again after it opened, which is enough.
    return {st.st_ino, 0, static_cast<uint64_t>(st.st_size)};
  }

 private:
  void allocate(int mode, const char* what, uint64_t offset, uint64_t bytes) {
    check(fallocate(fd_, mode, static_cast<off_t>(offset), static_cast<off_t>(bytes)) == 0, what, path_);
  }
  int fd_;
  std::string path_;
};

class TargetFs : public Fs {
 public:
  explicit TargetFs(std::string directory) : directory_(std::move(directory)) {}
  std::unique_ptr<FsFile> open(const std::string& path, bool create) override {
    std::string full = directory_ + path;
    int fd = ::open(full.c_str(), O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_EXCL : 0), 0600);
    check(fd >= 0, "open", full);
    return std::make_unique<TargetFile>(fd, full);
  }
  void unlink(const std::string& path) override {
    check(::unlink((directory_ + path).c_str()) == 0, "unlink", directory_ + path);
  }
  void rename(const std::string& from, const std::string& to) override {
    check(::rename((directory_ + from).c_str(), (directory_ + to).c_str()) == 0, "rename", directory_ + to);
  }

 private:
  std::string directory_;
};

}  // namespace

std::unique_ptr<Fs> make_target_fs(const std::string& directory) { return std::make_unique<TargetFs>(directory); }

}  // namespace torture
