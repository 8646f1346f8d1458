// Server: one manager: a mounted volume, its socket, its pagers and workers.
//
//   Server s(options); s.start(); ... s.request_stop() (from a signal handler, say); s.wait();
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>

#include "pmfs/fault/pager.h"
#include "pmfs/server/dispatch.h"
#include "pmfs/server/workers.h"

namespace pmfs::server {

struct ServerOptions {
  std::filesystem::path volume;
  std::string exclusion = "range";
  bool allow_broken = false;
  unsigned pagers = 2, workers = 4;
  bool canary = false, trace = false;
  unsigned jitter = 0;          // pause::g_jitter
  unsigned socket_mode = 0600;  // who may connect: a capability on all file data of the volume
  // A second socket, for clients that get nothing that they could store with. nullopt: there is none.
  std::optional<unsigned> read_only_socket_mode = std::nullopt;
  double grace_seconds = 15;    // clients of a manager that died may come back; then unlinked files of the rest are freed
  bool zap_at_mount = true;     // VolumeOptions
  bool force_acked = false;     // the same
  bool ask_readers = true;      // the same
  double fence_seconds = 30;    // a direct client that does not let go of blocks for so long is killed
  Sabotage sabotage = Sabotage::kNone;
  LeaseOptions lease = {};      // VolumeOptions
};

class Server {
 public:
  // Mounts the volume. Throws what MountedVolume does, and ENOTSUP where the kernel lacks what gated mode needs.
  explicit Server(const ServerOptions& o);
  ~Server();  // stop(), then a clean unmount
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void start();         // listens; returns when clients can connect
  void request_stop();  // async-signal-safe
  void wait();          // until a stop was requested, then stop(), or drain() if it is to be handed over
  // A manager that takes over has asked: everything under way is finished and nothing begun any more, but no session is
  // ended. The process must end now, without destroying this: its clients then go to the next manager.
  bool handed_over() const { return handed_over_.load(); }
  void stop();          // ends every session; idempotent

  // For tests that run a manager in their own process.
  MountedVolume& volume() { return *volume_; }
  fault::FaultHandler& faults() { return *faults_; }
  std::vector<std::shared_ptr<Session>> sessions();

 private:
  struct Door {
    UniqueFd listen;
    std::filesystem::path path;
  };
  void listen(Door& door, const char* name, unsigned mode, uint64_t id);
  void run();
  void accept(bool read_only);
  void control(const std::shared_ptr<Session>& s);
  void on_control(const std::shared_ptr<Session>& s, proto::ControlMessage& m);
  void end(const std::shared_ptr<Session>& s, bool comes_back = false);
  void expire_forks(bool all);
  void fence_late();
  void hand_over(const std::shared_ptr<Session>& s, const proto::ControlMessage& m);
  void drain();
  std::shared_ptr<ForkImage> take_fork(uint64_t token, uid_t uid, bool read_only);

  const ServerOptions options_;
  std::unique_ptr<FdShares> shares_;
  std::unique_ptr<MountedVolume> volume_;
  std::unique_ptr<fault::FaultHandler> faults_;
  std::unique_ptr<fault::Pagers> pagers_;
  Dispatcher::Host host_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::unique_ptr<Workers> workers_;
  UniqueFd uffd_device_, region_fd_, read_only_region_fd_, epoll_, stop_event_;
  Door door_, read_only_door_;
  std::thread control_thread_;
  std::atomic<bool> stop_{false}, handed_over_{false};
  int64_t grace_end_ns_ = 0;  // control thread only
  uint64_t next_id_ = 0;  // control thread only

  SharedMutex sessions_mutex_{LockRank::kSessionList, "server sessions"};
  std::unordered_map<uint64_t, std::shared_ptr<Session>> sessions_ GUARDED_BY(sessions_mutex_);
  Mutex forks_mutex_{LockRank::kLeaf, "server forks"};
  std::unordered_map<uint64_t, std::shared_ptr<ForkImage>> forks_ GUARDED_BY(forks_mutex_);
};

}  // namespace pmfs::server
