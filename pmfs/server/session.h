// Session: one connected client: its socket, ring, open files, mappings and VMA commands. It ends when the
// socket does, at any moment; whatever was of it is then gone, and who still works on its behalf finds nothing.
//
//   kNew --Hello--> kWelcomed --Uffd--> kReady;   any --EOF, protocol error, stop--> ended
//   The same for a client of a manager that died (reattach.cc), but that its requests are looked at only when it has
//   handed over its files and mappings: kReady --ReattachFile, ReattachMap...--> --ReattachDone--> served
//
// A direct client is one that maps blocks directly: each of a volume that is not gated, and each read-only one. Its end says nothing of
// what it has mapped: what waits for its answers waits on until its life lock is free (MountedVolume::estrange).
//
// Locks: files_mutex_ and agent_mutex_ are leaves for each other; neither is held while the client does anything.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <string>

#include <sys/socket.h>

#include "pmfs/base/mutex.h"
#include "pmfs/fault/client.h"
#include "pmfs/fault/pager.h"
#include "pmfs/proto/control.h"
#include "pmfs/proto/ring.h"
#include "pmfs/server/fd_shares.h"

namespace pmfs::server {

struct OpenFile {
  InodeRef inode;  // none: the file was gone when the client came back to this manager; every use of it is ESTALE
  int flags = 0;
};

// What kMap and kReattachMap ask for: addresses, offset and length by pages, a protection there is. Throws EINVAL, EOVERFLOW.
// `unit`: of the client's VMAs.
PageRange check_map(uint64_t va, uint64_t offset, uint64_t length, uint64_t prot, Unit unit);

// A mapping of it has ended: what was stored through it moves mtime now at the latest. No lock held.
void note_stores(MountedVolume& volume, Inode& i);

// What a fork takes along.
struct ForkImage {
  uint64_t client = 0;
  bool read_only = false;
  uid_t uid = 0;
  std::map<uint32_t, std::shared_ptr<OpenFile>> files;
  std::vector<proto::WireMapping> mappings;
  int64_t expires_ns = 0;
};

class Session final : public fault::Agent, public std::enable_shared_from_this<Session> {
 public:
  static constexpr size_t kOwnFds = 6;  // socket, pidfd, ring, doorbell, userfaultfd, SIGBUS memfd
  // own_fds: a share of that many. `shares` outlives it: sentinels take more.
  Session(MountedVolume& volume, fault::Pagers& pagers, FdShares& shares, std::shared_ptr<const void> own_fds, uint64_t id,
          UniqueFd socket, const ucred& peer, bool read_only = false);
  ~Session() override;

  const uint64_t id;
  const ucred peer;
  const meta::Credentials who;  // of the peer when it connected
  const bool read_only;         // it has nothing that it could store to the volume with
  int socket() const { return socket_.get(); }
  int doorbell() const { return doorbell_.get(); }
  proto::Ring& ring() const { return *ring_; }
  fault::Client& client() { return client_; }
  const fault::Client& client() const { return client_; }
  bool direct() const override { return read_only || !volume_.gated(); }
  // The kernel may map a direct VMA by entries of a unit, and splits none of those; nor VMAs of huge pages.
  Unit vma_unit() const override { return direct() || volume_.region().kind() == RegionKind::kHugetlb ? volume_.unit() : Unit(); }
  bool ready() const { return ready_.load(std::memory_order_acquire); }
  bool ended() const { return ended_.load(std::memory_order_acquire); }

  // --- set-up, on the control thread. An Error is sent to the client by the caller.
  void welcome(proto::ControlMessage& m, bool reattach, int uffd_device, int region_fd, std::shared_ptr<ForkImage> image);
  void take_uffd(proto::ControlMessage& m);
  void send_sentinel(const proto::ControlMessage& m);
  // --- reattach.cc
  bool reattaching() const { return client_.reattaching.load(); }
  bool reattached() const { return reattached_; }
  void reattach_file(const proto::ControlMessage& m);
  void reattach_map(const proto::ControlMessage& m);
  void reattach_done(const proto::ControlMessage& m);
  // Idempotent. No lock held. `comes_back`: with the same ring, as another session.
  void end(bool comes_back = false);
  bool has_ring(int fd) const;  // of its control thread

  // --- open files. Errors: EBADF, EMFILE, ESTALE.
  uint32_t add_file(std::shared_ptr<OpenFile> f);
  std::shared_ptr<OpenFile> file(uint32_t handle);
  void close_file(uint32_t handle);
  size_t files();
  std::shared_ptr<fault::Sentinel> sentinel(const InodeRef& inode);
  ForkImage fork_image();
  std::shared_ptr<ForkImage> inherited() const { return image_; }
  uint64_t next_mapping_id() { return (uint64_t{epoch_} << proto::kMappingEpochShift) + mapping_ids_.fetch_add(1) + 1; }
  uint32_t epoch() const { return epoch_; }  // of the mount
  // Given by a manager before this one: what it means may be gone, which is all that closing wants.
  bool former_handle(uint32_t h) const { return reattached_ && h >> proto::kHandleEpochShift != (epoch_ & 0xff); }

  // --- VMA commands
  uint64_t post(fault::VmaCommand c) override;  // any thread; never waits
  void refused(std::shared_ptr<const void> keep) override;
  bool agent_acks();                            // takes the agent's answers in; true: there were some
  struct Revokes {
    uint64_t count = 0;      // commands to let blocks go that are not answered
    int64_t since_ns = 0;    // when the oldest was posted
    bool refused = false;    // it has failed one: only its death ends that
  };
  Revokes revokes();
  bool fence();  // kills it, once. False: done before, or it is not known who it is.

  // --- a request whose answer waits for direct clients
  void answer(uint32_t slot);     // the reply is in the slot
  void ask_again(uint32_t slot);  // as if the client had just asked
  // How often that was done with the request in the slot; then it starts at 0 again.
  unsigned times_asked(uint32_t slot) { return asked_[slot].fetch_add(1); }
  void forget_asked(uint32_t slot) { asked_[slot].store(0); }
  uint64_t agent_queue();
  uint64_t last_command();  // number of the last one that is posted or waits to be; 0: all are executed

  // For the adaptive spin of the workers (server/workers.cc).
  std::atomic<int64_t> spin_ns{0}, last_reply_ns{0};
  std::atomic<uint32_t> next_slot{0};  // where the next look at the slots begins: all of them get their turn
  void ring_bell();                    // as the client would

 private:
  void pump() REQUIRES(agent_mutex_);
  uint32_t take_handle() REQUIRES(files_mutex_);
  bool has_open(Ino ino) const REQUIRES(files_mutex_);  // by some handle
  void take_ring(UniqueFd fd);
  std::shared_ptr<const void> answer_interrupted();
  void let_go(std::deque<fault::VmaCommand> commands);

  Leases::Outsider outsider_;  // from the welcome on; first, so that it goes last: who works for the client may hold the session
  MountedVolume& volume_;
  fault::Pagers& pagers_;
  FdShares& shares_;
  const std::shared_ptr<const void> own_fds_;
  UniqueFd socket_, ring_fd_, doorbell_;
  std::unique_ptr<proto::Ring> ring_;
  fault::Client client_;
  std::shared_ptr<ForkImage> image_;
  std::atomic<bool> ready_{false}, ending_{false}, ended_{false};
  uint64_t life_ = 0;  // its byte of the volume's client locks; 0: not welcomed yet
  std::shared_ptr<const UniqueFd> pidfd_;
  std::atomic<bool> fenced_{false};
  std::array<std::atomic<unsigned>, proto::kSlots> asked_{};
  std::atomic<uint64_t> mapping_ids_{0};
  const uint32_t epoch_;
  bool reattached_ = false;  // set by the hello

  Mutex files_mutex_{LockRank::kSessionFiles, "session files"};
  std::map<uint32_t, std::shared_ptr<OpenFile>> files_ GUARDED_BY(files_mutex_);
  std::map<uint64_t, std::weak_ptr<fault::Sentinel>> sentinels_ GUARDED_BY(files_mutex_);
  std::vector<std::shared_ptr<fault::Sentinel>> kept_sentinels_ GUARDED_BY(files_mutex_);
  uint32_t last_handle_ GUARDED_BY(files_mutex_) = 0;  // without the epoch

  // Commands in order: [executed | in the ring, seq done_+1 .. posted_ | waiting for room, .. next_seq_].
  Mutex agent_mutex_{LockRank::kAgent, "session agent"};
  std::deque<fault::VmaCommand> commands_ GUARDED_BY(agent_mutex_);  // front: seq done_ + 1
  std::atomic<bool> owes_{false};  // there are commands: what a look without the mutex goes by
  std::vector<std::shared_ptr<const void>> refused_ GUARDED_BY(agent_mutex_);
  uint64_t done_ GUARDED_BY(agent_mutex_) = 0, posted_ GUARDED_BY(agent_mutex_) = 0, next_seq_ GUARDED_BY(agent_mutex_) = 0;
};

}  // namespace pmfs::server
