// The files of a volume, by libpmfs's C API.
#include <fcntl.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "pmfs/pmfs.h"
#include "tests/exerciser/target.h"

namespace pmfs::exerciser {

namespace {

[[noreturn]] void api_fail(const char* what) {
  const int err = errno;
  throw std::system_error(err, std::generic_category(), std::string(what) + ": " + pmfs_strerror());
}

class Native final : public Target {
 public:
  explicit Native(const std::string& volume) : volume_(pmfs_connect(volume.c_str())) {
    if (volume_ == nullptr) api_fail("pmfs_connect");
    reset();
  }
  ~Native() override {
    for (unsigned f = 0; f < kFiles; ++f) close(files_[f]);
    pmfs_disconnect(volume_);
  }
  bool can(Kind k) const override { return k != Kind::kZeroGrow; }  // its zero range keeps the size

  void reset() override {
    for (unsigned f = 0; f < kFiles; ++f) {
      close(files_[f]);
      pmfs_unlink(volume_, path(f).c_str());
      open(f);
    }
  }
  uint64_t size(FileIndex f) override {
    struct stat st {};
    if (pmfs_fstat(fd(f), &st) != 0) api_fail("pmfs_fstat");
    return static_cast<uint64_t>(st.st_size);
  }
  size_t read(FileIndex f, uint64_t offset, std::span<std::byte> out) override {
    return checked(pmfs_pread(fd(f), out.data(), out.size(), off_t(offset)), "pmfs_pread");
  }
  size_t write(FileIndex f, uint64_t offset, std::span<const std::byte> in) override {
    return checked(pmfs_pwrite(fd(f), in.data(), in.size(), off_t(offset)), "pmfs_pwrite");
  }
  size_t append(FileIndex f, std::span<const std::byte> in) override {
    return checked(pmfs_append(fd(f), in.data(), in.size()), "pmfs_append");
  }
  void truncate(FileIndex f, uint64_t size) override {
    if (pmfs_ftruncate(fd(f), off_t(size)) != 0) api_fail("pmfs_ftruncate");
  }
  void fallocate(FileIndex f, int mode, uint64_t offset, uint64_t length) override {
    if (pmfs_fallocate(fd(f), mode, off_t(offset), off_t(length)) != 0) api_fail("pmfs_fallocate");
  }
  size_t copy(FileIndex from, uint64_t offset, FileIndex to, uint64_t to_offset, uint64_t length) override {
    return checked(pmfs_copy_file_range(fd(from), off_t(offset), fd(to), off_t(to_offset), length), "pmfs_copy_file_range");
  }
  void clone(FileIndex from, uint64_t offset, FileIndex to, uint64_t to_offset, uint64_t length) override {
    if (pmfs_clone_range(fd(from), off_t(offset), off_t(length), fd(to), off_t(to_offset)) != 0) api_fail("pmfs_clone_range");
  }
  int64_t seek(FileIndex f, uint64_t offset, int whence) override {
    const off_t at = pmfs_seek(fd(f), off_t(offset), whence);
    if (at < 0 && errno != ENXIO) api_fail("pmfs_seek");
    return at;
  }
  void sync(FileIndex f) override {
    if (pmfs_fsync(fd(f)) != 0) api_fail("pmfs_fsync");
  }
  void reopen(FileIndex f) override {
    close(files_[f.v]);
    open(f.v);
  }
  std::byte* map(FileIndex f) override {
    File& file = files_[f.v];
    if (file.map == nullptr) {
      void* p = pmfs_mmap(nullptr, kMaxBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
      if (p == MAP_FAILED) api_fail("pmfs_mmap");
      file.map = static_cast<std::byte*>(p);
    }
    return file.map;
  }

 private:
  struct File {
    int fd = -1;
    std::byte* map = nullptr;
  };
  static std::string path(unsigned f) { return "/exerciser-" + std::to_string(f); }
  int fd(FileIndex f) const { return files_[f.v].fd; }
  static size_t checked(ssize_t n, const char* what) {
    if (n < 0) api_fail(what);
    return static_cast<size_t>(n);
  }
  void open(unsigned f) {
    files_[f].fd = pmfs_open(volume_, path(f).c_str(), O_RDWR | O_CREAT, 0600);
    if (files_[f].fd < 0) api_fail("pmfs_open");
  }
  static void close(File& f) {
    if (f.map != nullptr && pmfs_munmap(f.map, kMaxBytes) != 0) api_fail("pmfs_munmap");
    if (f.fd >= 0) pmfs_close(f.fd);
    f = File{};
  }

  pmfs_volume* volume_;
  std::array<File, kFiles> files_;
};

}  // namespace

std::unique_ptr<Target> native_target(const std::string& volume) { return std::make_unique<Native>(volume); }

}  // namespace pmfs::exerciser
