// Child processes that do numbered jobs and may crash or hang in them: the parent notices, names the job, and starts
// another child that goes on behind it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace pmfs::crash {

class Workers {
 public:
  // What a child does with itself: called once per job number, in the child.
  using Job = std::function<void(uint64_t number)>;
  struct Options {
    unsigned processes = 2;
    unsigned hang_seconds = 60;  // without a beat: killed
  };
  Workers();
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // In a child: adds to a count that the parent sees; says what is being done; reports a finding.
  void count(size_t which, uint64_t n);
  void beat(const std::string& doing);
  void found(const std::string& text);
  uint64_t counted(size_t which) const;

  // Runs jobs first, first + 1, ... until `enough` (asked in the children before each job, with the job's number)
  // says so. `make` makes a child's Job, in the child. `progress` is called about every 200 ms in the parent. Returns
  // what was found, deaths and hangs included.
  std::vector<std::string> run(const Options& o, uint64_t first, const std::function<bool(uint64_t)>& enough,
                               const std::function<Job(unsigned child)>& make, const std::function<void()>& progress);

 private:
  struct Page;  // shared memory
  Page* page_;
  unsigned me_ = 0;
  int report_fd_ = -1;
};

}  // namespace pmfs::crash
