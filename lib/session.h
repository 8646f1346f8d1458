// A session: this process's connection to one manager. Requests go through the shared-memory ring (one slot each,
// up to proto::kSlots at a time, more wait their turn), fds through the socket, VMA commands to the agent thread.
//
// All methods are safe from several threads. No lock is held while a request waits or while a user's buffer is
// copied: that buffer may be mapped from a pmfs file, and a touch of it may wait for the manager.
//
// After fork() the same object serves the child, as a client of its own.
//
// When the manager dies the keeper (keeper.h) goes to the next one. Calls wait for that, for as long as the patience is
// (PMFS_PATIENCE_MS in the environment, 10 s), and then throw ENOTCONN; later calls may find a manager again. A call that
// was being executed when the manager died is repeated if that can do no harm, else it throws EOWNERDEAD: it may have
// happened or not. Faults of mappings wait without a bound (they are never answered with zeros). When a manager stops
// cleanly the session is over: every call throws ENOTCONN at once.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "lib/agent.h"
#include "lib/connect.h"
#include "lib/holdings.h"
#include "lib/keeper.h"
#include "pmfs/base/mutex.h"
#include "pmfs/base/types.h"
#include "pmfs/pmfs.hpp"
#include "pmfs/proto/protocol.h"
#include "pmfs/proto/ring.h"

namespace pmfs {

// The sentinel memfd of one file: what lies under a mapping where no extent is mapped. Commands name its fd number,
// so it lives as long as a mapping of the file. The manager keeps one per client and inode for as long as a handle
// or a mapping of the inode is open; so what a handle was answered once holds until that handle is closed.
struct Sentinel {
  UniqueFd fd;  // its number stays, also when a new manager has another memfd for the file
  uint64_t ino, generation;  // of the file
};

#pragma GCC visibility push(default)
class Session {
 public:
  // Gets the reply and the slot's bounce buffer, before the slot is given back. Must not call the session.
  using Out = std::function<void(const proto::Reply&, std::span<const std::byte>)>;

  static std::shared_ptr<Session> connect(const std::string& volume, Access access = Access::kReadWrite);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // One request. `in` goes to the start of the bounce buffer (kBounceBytes at most). A reply with err != 0 is thrown
  // as Error; a reply that names an agent command is returned when the agent has executed it.
  proto::Reply call(const proto::Request& request, std::span<const std::byte> in = {}, const Out& out = {});
  proto::Reply call_path(proto::Request request, std::string_view path1, std::string_view path2 = {},
                         const Out& out = {});

  const std::string& volume() const { return volume_; }
  const proto::HelloReply& hello() const { return c_.hello; }
  bool closed() const;  // for good
  uint32_t agent_backlog() const;  // commands posted, not yet executed

  // For mapping.cc, file.cc and fork.cc.
  std::shared_ptr<Sentinel> sentinel(uint32_t handle);
  UniqueFd fetch_sentinel(uint32_t handle);
  int uffd() const { return c_.uffd.get(); }
  // What addresses, offsets and lengths of mappings are multiples of, in bytes: where VMAs of the region are direct the kernel may
  // map a unit by one entry, and such a VMA can't be cut inside of it.
  size_t map_align() const { return c_.hello.acked != 0 || c_.hello.region_kind == proto::kRegionHugetlb ? c_.hello.block_size : kBlockSize; }
  // Of the reply to kOpen; returns the file's handle, which is another one if the manager has died since.
  uint32_t note_open(proto::Reply reply, int flags);
  void note_close(uint32_t handle);
  Holdings& holdings() { return holdings_; }
  // Of the manager that the holdings were given to last. Stays the same inside their gate.
  uint32_t epoch() const { return link_.epoch.load(std::memory_order_seq_cst); }
  // Returns when the agent has executed every command posted so far, or will never execute one again. False if it
  // is stuck: then no range of the session may be unmapped.
  bool drain_agent();

  void prepare_fork();      // in the parent, the gate is closed
  void resume_in_parent();
  void drop_inherited();    // in the child: lets go of all that belongs to the parent
  void reattach_in_child();

 private:
  class Lease;
  Session(const std::string& volume, Access access);
  void start(uint64_t token, uint64_t flags = 0);
  void keep();
  bool attach_by_token();
  bool attach_by_name();
  bool let_go();
  proto::ControlMessage exchange(proto::Control type, std::span<std::byte> message);
  uint32_t claim_slot();
  uint32_t try_claim();
  void release_slot(uint32_t index);
  void publish(uint32_t index);
  void wait_reply(uint32_t index);
  bool spin_for_reply(const proto::Slot& slot, int64_t begin) const;
  void wait_agent(uint64_t seq, uint32_t epoch);
  void wait_agent_all();
  void check_open() const;
  int64_t recheck_ns() const;
  bool given_up() const;  // closed, or without a manager for longer than we are patient
  void wait_connected();

  std::string volume_;  // absolute
  const Access access_;
  UniqueFd dir_;
  Connection c_;
  std::unique_ptr<proto::Ring> ring_;
  std::unique_ptr<Agent> agent_;
  Holdings holdings_;
  Link link_;
  std::unique_ptr<Keeper> keeper_;
  int64_t patience_ns_;
  std::atomic<uint32_t> abandoned_{0};  // slots whose thread did not wait for the answer
  std::atomic<bool> lost_{false};  // a fork's child could not attach
  uint64_t fork_token_ = 0;        // from prepare_fork to the child
  UniqueFd inherited_life_;        // in the child, until it is attached

  std::atomic<uint32_t> average_ns_{5000};  // of recent replies, for the spin
  std::atomic<uint32_t> probe_{0};
  std::atomic<uint32_t> turn_next_{0}, turn_{0};  // tickets of threads that wait for a slot, in order
  std::atomic<uint32_t> freed_{0};                // futex: bumped when a slot is freed while somebody waits

  Mutex socket_mutex_{LockRank::kRegion, "session socket"};  // one control exchange at a time
  uint32_t control_seq_ GUARDED_BY(socket_mutex_) = 16;
  Mutex table_mutex_{LockRank::kVma, "session tables"};
  struct Handle {
    HeldFile* held;
    std::shared_ptr<Sentinel> sentinel;  // null: not asked for yet
  };
  using FileId = std::pair<uint64_t, uint64_t>;  // ino, generation
  std::map<uint32_t, Handle> handles_ GUARDED_BY(table_mutex_);
  std::map<FileId, std::weak_ptr<Sentinel>> sentinels_ GUARDED_BY(table_mutex_);
};
#pragma GCC visibility pop

proto::Request make_request(proto::Op op, uint32_t handle = 0);

}  // namespace pmfs
