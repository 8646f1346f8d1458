// The files of a directory, by system calls: of FUSE, of any file system, or of a volume under the preload shim.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <linux/falloc.h>
#include <stdexcept>
#include <system_error>

#include "tests/exerciser/target.h"

namespace pmfs::exerciser {

namespace {

[[noreturn]] void sys_fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

class Directory final : public Target {
 public:
  Directory(std::string dir, bool must_map) : dir_(std::move(dir)) {
    reset();
    can_.fill(true);
    // What this file system has not is left out of the run; that is said by the program.
    probe(Kind::kCollapse, [&] { fallocate(FileIndex{0}, FALLOC_FL_COLLAPSE_RANGE, 0, kPage); });
    probe(Kind::kInsert, [&] { fallocate(FileIndex{0}, FALLOC_FL_INSERT_RANGE, 0, kPage); });
    probe(Kind::kZero, [&] { fallocate(FileIndex{0}, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, kPage); });
    probe(Kind::kZeroGrow, [&] { fallocate(FileIndex{0}, FALLOC_FL_ZERO_RANGE, 0, kPage); });
    probe(Kind::kClone, [&] { clone(FileIndex{0}, 0, FileIndex{1}, 0, kPage); });
    probe(Kind::kMapRead, [&] { map(FileIndex{0}); });
    can_[size_t(Kind::kMapWrite)] = can(Kind::kMapRead);
    if (must_map && !can(Kind::kMapRead)) throw std::runtime_error(dir_ + ": its files can't be mapped shared");
  }
  ~Directory() override {
    for (unsigned f = 0; f < kFiles; ++f) close(files_[f]);
  }

  bool can(Kind k) const override { return can_[size_t(k)]; }

  void reset() override {
    for (unsigned f = 0; f < kFiles; ++f) {
      close(files_[f]);
      ::unlink(path(f).c_str());
      open(f);
    }
  }
  uint64_t size(FileIndex f) override {
    struct stat st {};
    if (::fstat(fd(f), &st) != 0) sys_fail("fstat");
    return static_cast<uint64_t>(st.st_size);
  }
  size_t read(FileIndex f, uint64_t offset, std::span<std::byte> out) override {
    return checked(::pread(fd(f), out.data(), out.size(), off_t(offset)), "pread");
  }
  size_t write(FileIndex f, uint64_t offset, std::span<const std::byte> in) override {
    return checked(::pwrite(fd(f), in.data(), in.size(), off_t(offset)), "pwrite");
  }
  size_t append(FileIndex f, std::span<const std::byte> in) override {
    return checked(::write(files_[f.v].appending, in.data(), in.size()), "write with O_APPEND");
  }
  void truncate(FileIndex f, uint64_t size) override {
    if (::ftruncate(fd(f), off_t(size)) != 0) sys_fail("ftruncate");
  }
  void fallocate(FileIndex f, int mode, uint64_t offset, uint64_t length) override {
    if (::fallocate(fd(f), mode, off_t(offset), off_t(length)) != 0) sys_fail("fallocate");
  }
  size_t copy(FileIndex from, uint64_t offset, FileIndex to, uint64_t to_offset, uint64_t length) override {
    auto a = loff_t(offset), b = loff_t(to_offset);
    return checked(::copy_file_range(fd(from), &a, fd(to), &b, length, 0), "copy_file_range");
  }
  void clone(FileIndex from, uint64_t offset, FileIndex to, uint64_t to_offset, uint64_t length) override {
    file_clone_range r{fd(from), offset, length, to_offset};
    if (::ioctl(fd(to), FICLONERANGE, &r) != 0) sys_fail("FICLONERANGE");
  }
  int64_t seek(FileIndex f, uint64_t offset, int whence) override {
    const off_t at = ::lseek(fd(f), off_t(offset), whence);
    if (at < 0 && errno != ENXIO) sys_fail("lseek");
    return at;
  }
  void sync(FileIndex f) override {
    if (::fsync(fd(f)) != 0) sys_fail("fsync");
  }
  void reopen(FileIndex f) override {
    close(files_[f.v]);
    open(f.v);
  }
  std::byte* map(FileIndex f) override {
    File& file = files_[f.v];
    if (file.map == nullptr) {
      void* p = ::mmap(nullptr, kMaxBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
      if (p == MAP_FAILED) sys_fail("mmap");
      file.map = static_cast<std::byte*>(p);
    }
    return file.map;
  }

 private:
  struct File {
    int fd = -1, appending = -1;
    std::byte* map = nullptr;
  };
  std::string path(unsigned f) const { return dir_ + "/exerciser-" + std::to_string(f); }
  int fd(FileIndex f) const { return files_[f.v].fd; }
  static size_t checked(ssize_t n, const char* what) {
    if (n < 0) sys_fail(what);
    return static_cast<size_t>(n);
  }
  void open(unsigned f) {
    files_[f].fd = ::open(path(f).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (files_[f].fd < 0) sys_fail("open");
    files_[f].appending = ::open(path(f).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (files_[f].appending < 0) sys_fail("open with O_APPEND");
  }
  static void close(File& f) {
    if (f.map != nullptr) ::munmap(f.map, kMaxBytes);
    if (f.fd >= 0) ::close(f.fd);
    if (f.appending >= 0) ::close(f.appending);
    f = File{};
  }
  template <class F>
  void probe(Kind k, F&& f) {
    reset();
    truncate(FileIndex{0}, 4 * kPage);
    try {
      f();
    } catch (const std::system_error& e) {
      const int err = e.code().value();
      if (err != EOPNOTSUPP && err != ENODEV && err != ENOTTY && err != EINVAL) throw;
      can_[size_t(k)] = false;
    }
    reset();
  }

  const std::string dir_;
  std::array<File, kFiles> files_;
  std::array<bool, kKinds> can_{};
};

}  // namespace

std::unique_ptr<Target> directory_target(const std::string& dir, bool must_map) {
  return std::make_unique<Directory>(dir, must_map);
}

}  // namespace pmfs::exerciser
