// A manager for one client at a time that answers requests with a function of the test. It keeps no files: for
// tests of the transport (slots, sleeping, the agent's queue, a manager that lies, hangs or dies).
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "pmfs/base/unique_fd.h"
#include "pmfs/proto/control.h"
#include "pmfs/proto/ring.h"
#include "tests/support/temp_dir.h"

namespace pmfs::test {

class FakeManager {
 public:
  // Runs on the manager's thread. False: no reply (the slot stays kRunning).
  using Handler = std::function<bool(const proto::Request&, std::byte* bounce, proto::Reply&)>;
  // Changes the welcome before it is sent; may reduce the number of fds. Null: as it should be.
  using Welcome = std::function<void(proto::HelloReply&, size_t* fds)>;

  explicit FakeManager(Handler h, Welcome w = nullptr, std::string subdir = {});
  ~FakeManager();

  std::string path() const { return dir_ / subdir_; }
  proto::Ring& ring() { return *ring_; }
  int uffd() const { return uffd_.get(); }
  int region() const { return region_.get(); }
  // Queues a VMA command (waits for room) and returns its number.
  uint64_t post(proto::AgentOp op, uint64_t va, uint64_t length, uint64_t offset, int prot, int fd = -1);
  void wait_agent(uint64_t seq);
  void die();  // as kill -9: the sockets close, nothing is said

  std::atomic<uint64_t> doorbells{0};

 private:
  void run();
  bool greet(int socket);
  void serve(int socket);
  bool scan();

  TempDir dir_;
  const std::string subdir_;
  const Handler handler_;
  const Welcome welcome_;
  UniqueFd listen_, stop_, region_, sigbus_, sentinel_, ring_fd_, doorbell_, uffd_;
  std::unique_ptr<proto::Ring> ring_;
  std::mutex post_mutex_;
  uint64_t posted_ = 0;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace pmfs::test
