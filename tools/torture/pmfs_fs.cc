// The volume under torture, through the C++ client library.
#include "pmfs/pmfs.hpp"
#include "tools/torture/fs.h"

namespace torture {
namespace {

class PmfsMapping : public FsMapping {
 public:
  explicit PmfsMapping(pmfs::Mapping m) : mapping_(std::move(m)) {
    data = mapping_.data();
    bytes = mapping_.size();
  }

 private:
  pmfs::Mapping mapping_;
};

class PmfsFile : public FsFile {
 public:
  explicit PmfsFile(pmfs::File f) : file_(std::move(f)) {}
  std::unique_ptr<FsMapping> map(uint64_t offset, size_t bytes) override {
    return std::make_unique<PmfsMapping>(file_.map(offset, bytes));
  }
  size_t read(std::span<std::byte> out, uint64_t offset) override { return file_.read(out, offset); }
  void write(std::span<const std::byte> in, uint64_t offset) override { file_.write(in, offset); }
  void append(std::span<const std::byte> in) override { file_.append(in); }
  void truncate(uint64_t size) override { file_.truncate(size); }
  void punch(uint64_t offset, uint64_t bytes) override { file_.punch(offset, bytes); }
  void zero_range(uint64_t offset, uint64_t bytes) override { file_.zero_range(offset, bytes); }
  FileId id() override {
    pmfs::Stat st = file_.stat();
    return {st.ino, st.generation, st.size};
  }

 private:
  pmfs::File file_;
};

class PmfsFs : public Fs {
 public:
  explicit PmfsFs(const std::string& volume) : volume_(volume) {}
  std::unique_ptr<FsFile> open(const std::string& path, bool create) override {
    return std::make_unique<PmfsFile>(volume_.open(path, O_RDWR | (create ? O_CREAT | O_EXCL : 0), 0644));
  }
  void unlink(const std::string& path) override { volume_.unlink(path); }
  void rename(const std::string& from, const std::string& to) override { volume_.rename(from, to); }

 private:
  pmfs::Volume volume_;
};

}  // namespace

std::unique_ptr<Fs> make_pmfs_fs(const std::string& volume) { return std::make_unique<PmfsFs>(volume); }

}  // namespace torture
