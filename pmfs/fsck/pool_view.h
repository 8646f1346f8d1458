// A metadata pool to look at, however damaged it is: a private copy that nothing in this process writes to.
//
// libpmemobj's recovery must run first (a crash in the middle of a transaction is no damage), but the library
// believes its own structures and may crash on damaged ones. So it opens the pool in a child process, privately
// (copy on write), and hands a copy of what it recovered over; if it fails, crashes or hangs, the file is looked at
// as it is. Nothing is ever written to the file.
#pragma once

#include <cstring>
#include <filesystem>
#include <string>
#include <unordered_map>

#include "pmfs/fsck/finding.h"
#include "pmfs/meta/layout.h"

namespace pmfs::fsck {

class PoolView {
 public:
  // Throws Error: ENOENT, EACCES, EBUSY (in use), EUCLEAN when there is no root object to start from.
  PoolView(const std::filesystem::path& path, unsigned child_seconds);
  ~PoolView();
  PoolView(const PoolView&) = delete;
  PoolView& operator=(const PoolView&) = delete;

  uint64_t bytes() const { return bytes_; }
  uint64_t root_offset() const { return root_; }
  const meta::Root& root() const { return *reinterpret_cast<const meta::Root*>(base_ + root_); }
  // A T of `bytes` at `off`, nullptr if that is not inside the pool.
  template <class T>
  const T* at(uint64_t off, size_t bytes = sizeof(T)) const {
    if (off == 0 || off % 8 != 0 || off >= bytes_ || bytes > bytes_ - off) return nullptr;
    return reinterpret_cast<const T*>(base_ + off);
  }

  bool opened() const { return problem_.empty(); }
  // Why libpmemobj could not open the pool; empty if it could.
  const std::string& problem() const { return problem_; }
  // What Store::check() says, if it could open it.
  const std::vector<std::string>& check_findings() const { return check_; }
  // What libpmemobj has allocated, offset -> usable bytes; only if opened().
  const std::unordered_map<uint64_t, uint64_t>& objects() const { return objects_; }

 private:
  void recover_in_child(const std::filesystem::path& path, unsigned seconds);
  bool find_root();
  std::byte* base_ = nullptr;
  uint64_t bytes_ = 0, root_ = 0;
  std::string problem_;
  std::vector<std::string> check_;
  std::unordered_map<uint64_t, uint64_t> objects_;
};

}  // namespace pmfs::fsck
