// A volume of the benchmark's own and the process that serves it.
#pragma once

#include <atomic>
#include <filesystem>
#include <string>

#include "bench/child.h"

namespace pmfs::bench {

// The destructor stops the manager; the volume's files are the caller's to remove.
class ManagerProcess {
 public:
  ManagerProcess(const std::filesystem::path& volume, uint64_t bytes, const std::string& exclusion = "range",
                 const std::filesystem::path& device = {});
  ~ManagerProcess();
  pid_t pid() const { return child_.pid(); }
  // Waits until the blocks that were freed are zeroed again, as they are on a volume at rest. False after `limit`.
  bool settle(std::chrono::seconds limit = std::chrono::seconds(10)) const;

 private:
  std::filesystem::path data_;
  uint64_t bytes_;
  Shared<std::atomic<bool>> ready_;
  Child child_;
};

}  // namespace pmfs::bench
