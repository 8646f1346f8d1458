#include "tools/pmfs/endpoint.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "pmfs/base/error.h"
#include "pmfs/base/unique_fd.h"
#include "pmfs/pmfs.hpp"
#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

namespace fs = std::filesystem;

std::string temporary_name() {
  uint64_t r = 0;
  if (::getrandom(&r, sizeof r, 0) != static_cast<ssize_t>(sizeof r)) r = static_cast<uint64_t>(::getpid());
  return fmt::format(".pmfs-cp-{:016x}", r);
}

uint32_t after_umask(uint32_t mode) {
  const mode_t mask = ::umask(0);
  ::umask(mask);
  return mode & 0777 & ~mask;
}

[[noreturn]] void fail_local(const std::string& path, int err, const char* what) {
  fail(err, "{}: can't {}: {}", path, what, std::strerror(err));
}

// --- local files

class LocalSource : public Source {
 public:
  explicit LocalSource(const std::string& path) : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (!fd_) fail_local(path_, errno, "open");
    struct stat st {};
    if (::fstat(fd_.get(), &st) != 0) fail_local(path_, errno, "look at it");
    if (S_ISDIR(st.st_mode)) fail(EISDIR, "{}: is a directory; name a file in it", path_);
    mode_ = st.st_mode & 0777;
    if (S_ISREG(st.st_mode)) size_ = static_cast<uint64_t>(st.st_size);
  }
  const std::string& text() const override { return path_; }
  std::string name() const override { return fs::path(path_).filename(); }
  uint32_t mode() const override { return mode_; }
  std::optional<uint64_t> size() const override { return size_; }

  std::optional<DataRange> next_data(uint64_t pos) override {
    if (!size_) return DataRange{pos, UINT64_MAX};
    const off_t data = ::lseek(fd_.get(), static_cast<off_t>(pos), SEEK_DATA);
    if (data < 0) {
      if (errno == ENXIO) return std::nullopt;
      return DataRange{pos, *size_};  // a file system that can't tell
    }
    const off_t hole = ::lseek(fd_.get(), data, SEEK_HOLE);
    return DataRange{static_cast<uint64_t>(data), hole < 0 ? *size_ : static_cast<uint64_t>(hole)};
  }

  size_t read(std::span<std::byte> out, uint64_t pos) override {
    const ssize_t n = size_ ? ::pread(fd_.get(), out.data(), out.size(), static_cast<off_t>(pos))
                            : ::read(fd_.get(), out.data(), out.size());
    if (n < 0) fail_local(path_, errno, "read");
    return static_cast<size_t>(n);
  }

 private:
  const std::string path_;
  UniqueFd fd_;
  uint32_t mode_ = 0;
  std::optional<uint64_t> size_;
};

class LocalSink : public Sink {
 public:
  LocalSink(const std::string& path, const std::string& source_name, uint32_t mode)
      : path_(path), mode_(after_umask(mode)) {
    std::error_code ec;
    if (fs::is_directory(path_, ec)) path_ = fs::path(path_) / source_name;
    if (fs::is_symlink(path_, ec) && fs::exists(path_, ec)) path_ = fs::canonical(path_, ec);
    if (fs::exists(path_, ec) && !fs::is_regular_file(path_, ec)) {
      fail(EINVAL, "{}: is not a regular file; choose another destination", path_);
    }
    fs::path dir = fs::path(path_).parent_path();
    if (dir.empty()) dir = ".";
    dir_ = UniqueFd(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!dir_) fail_local(path_, errno, "open its directory");
    const std::string name = temporary_name();
    fd_ = UniqueFd(::openat(dir_.get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd_) fail_local(path_, errno, "create a file beside it");
    temporary_ = name;
  }
  ~LocalSink() override {
    if (!temporary_.empty()) ::unlinkat(dir_.get(), temporary_.c_str(), 0);
  }
  const std::string& text() const override { return path_; }

  void resize(uint64_t size) override {
    if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) fail_local(path_, errno, "size it");
  }

  void write(std::span<const std::byte> in, uint64_t pos) override {
    while (!in.empty()) {
      const ssize_t n = ::pwrite(fd_.get(), in.data(), in.size(), static_cast<off_t>(pos));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) fail_local(path_, n < 0 ? errno : EIO, "write");
      in = in.subspan(static_cast<size_t>(n));
      pos += static_cast<uint64_t>(n);
    }
  }

  void commit() override {
    if (::fchmod(fd_.get(), mode_) != 0) fail_local(path_, errno, "set its mode");
    if (::fsync(fd_.get()) != 0) fail_local(path_, errno, "make it durable");
    const std::string name = fs::path(path_).filename();
    if (::renameat(dir_.get(), temporary_.c_str(), dir_.get(), name.c_str()) != 0) {
      fail_local(path_, errno, "rename the copy to it");
    }
    temporary_.clear();
    if (::fsync(dir_.get()) != 0 && errno != EINVAL) fail_local(path_, errno, "make its name durable");
  }

 private:
  std::string path_;
  const uint32_t mode_;
  UniqueFd dir_, fd_;
  std::string temporary_;
};

// --- files in a volume

// An error of the volume under the name the user wrote.
[[noreturn]] void fail_in_volume(const Error& e, const std::string& text, const char* what) {
  if (e.err() == ENOTCONN) fail(ENOTCONN, "{}: can't {}: {}", text, what, e.message());  // says how to go on
  fail(e.err(), "{}: can't {}: {}", text, what, std::strerror(e.err()));
}

class VolumeSource : public Source {
 public:
  explicit VolumeSource(const Target& t) : target_(t), text_(t.text()), volume_(t.volume) {
    try {
      file_ = volume_.open(t.path, O_RDONLY);
      stat_ = file_.stat();
      extents_ = file_.extents();
    } catch (const Error& e) {
      fail_in_volume(e, text_, "open");
    }
    std::erase_if(extents_, [](const ExtentInfo& e) { return e.unwritten; });
  }
  const std::string& text() const override { return text_; }
  std::string name() const override { return target_.name(); }
  uint32_t mode() const override { return stat_.mode & 0777; }
  std::optional<uint64_t> size() const override { return stat_.size; }

  std::optional<DataRange> next_data(uint64_t pos) override {
    while (next_ < extents_.size()) {
      const DataRange r{extents_[next_].pgoff * kPage, (extents_[next_].pgoff + extents_[next_].count) * kPage};
      if (r.end > pos) return DataRange{std::max(r.begin, pos), r.end};
      ++next_;
    }
    return std::nullopt;
  }

  size_t read(std::span<std::byte> out, uint64_t pos) override {
    try {
      return file_.read(out, pos);
    } catch (const Error& e) {
      fail_in_volume(e, text_, "read");
    }
  }

 private:
  static constexpr uint64_t kPage = 4096;
  const Target target_;
  const std::string text_;
  Volume volume_;
  File file_;
  Stat stat_{};
  std::vector<ExtentInfo> extents_;
  size_t next_ = 0;  // positions only go forward
};

class VolumeSink : public Sink {
 public:
  VolumeSink(Target t, const std::string& source_name, uint32_t mode) : target_(std::move(t)), volume_(target_.volume) {
    const bool names_directory = target_.path.ends_with('/');
    try {
      if (S_ISDIR(volume_.stat(target_.path).mode)) target_ = target_.child(source_name);
    } catch (const Error& e) {
      if (e.err() != ENOENT || names_directory) fail_in_volume(e, target_.text(), "look at it");
    }
    text_ = target_.text();
    const std::string path = target_.parent().child(temporary_name()).path;
    try {
      file_ = volume_.open(path, O_RDWR | O_CREAT | O_EXCL, after_umask(mode));
    } catch (const Error& e) {
      fail_in_volume(e, text_, "create a file beside it");
    }
    temporary_ = path;
  }
  ~VolumeSink() override {
    if (temporary_.empty()) return;
    try {
      file_ = File();
      volume_.unlink(temporary_);
    } catch (const Error& e) {
      fmt::print(stderr, "pmfs: {}:{}: is left of the copy: {}; remove it with pmfs rm\n", target_.volume, temporary_,
                 std::strerror(e.err()));
    }
  }
  const std::string& text() const override { return text_; }

  void resize(uint64_t size) override {
    try {
      file_.truncate(size);
    } catch (const Error& e) {
      fail_in_volume(e, text_, "size it");
    }
  }

  void write(std::span<const std::byte> in, uint64_t pos) override {
    try {
      while (!in.empty()) {
        const size_t n = file_.write(in, pos);
        if (n == 0) throw Error(EIO, "nothing was written");
        in = in.subspan(n);
        pos += n;
      }
    } catch (const Error& e) {
      fail_in_volume(e, text_, "write");
    }
  }

  void commit() override {
    try {
      file_.fsync();
      file_.close();
      volume_.rename(temporary_, target_.path);
    } catch (const Error& e) {
      fail_in_volume(e, text_, "put the copy in its place");
    }
    temporary_.clear();
  }

 private:
  Target target_;
  std::string text_;
  Volume volume_;
  File file_;
  std::string temporary_;
};

}  // namespace

std::unique_ptr<Source> open_source(const std::string& text) {
  if (is_target(text)) return std::make_unique<VolumeSource>(parse_target(text));
  return std::make_unique<LocalSource>(text);
}

std::unique_ptr<Sink> open_sink(const std::string& text, const std::string& source_name, uint32_t mode) {
  if (is_target(text)) return std::make_unique<VolumeSink>(parse_target(text), source_name, mode);
  return std::make_unique<LocalSink>(text, source_name, mode);
}

}  // namespace pmfs::cli
