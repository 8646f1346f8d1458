// Dispatcher: executes one request of a client. Copies it out of shared memory once, validates every field of the
// copy, and turns Errors into replies. No lock is held on entry; nothing here waits for a client.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pmfs/fault/handler.h"
#include "pmfs/server/session.h"

namespace pmfs::server {

// A check left out, only to see that a test finds it.
enum class Sabotage : uint8_t {
  kNone,
  kReadUnchecked,  // the length of a read may be any
  kReadTwice,      // it is checked, and then read from the client's memory once more
};

class Dispatcher {
 public:
  // What the dispatcher needs of the server.
  struct Host {
    std::function<std::vector<std::shared_ptr<Session>>()> sessions;
    std::function<uint64_t(ForkImage)> keep_fork;  // -> token
    std::function<void(uint64_t)> drop_fork;
    std::function<void()> shutdown;
    Counter requests, protocol_errors, client_deaths;
    Sabotage sabotage = Sabotage::kNone;
  };
  Dispatcher(MountedVolume& volume, fault::FaultHandler& faults, Host& host) : volume_(volume), faults_(faults), host_(host) {}
  // The slot's state is kRunning; the reply and the bounce buffer are ours until the caller sets kDone, by Session::answer.
  // False: that is done, or the request executed again, when clients have let go of what it is about (acked mode).
  bool execute(Session& s, uint32_t slot);
  void answered() { volume_.answered(); }  // a direct client's agent has
  // What need not delay the reply: called when it has been given.
  void settle() { volume_.settle(); }

 private:
  struct Call {  // a private copy of the request, and where the answer goes
    Session& session;
    proto::Request r;
    std::string path1, path2;
    std::byte* bounce;
    const proto::Request* shared;  // the client's, to sabotage with
    proto::Reply reply{};
    std::optional<Ino> changed{};  // the file whose blocks the request may have taken away
    Wait wait() const { return r.flags & proto::kFlagNoWait ? Wait::kNoWait : Wait::kBlock; }
  };
  void run(Call& c);
  void open(Call& c);
  void reopen(Call& c);
  void map(Call& c);
  void unmap(Call& c);
  void split(Call& c);
  void protect(Call& c);
  void sync(Call& c);
  void map_info(Call& c);
  void stat(Call& c);
  void readdir(Call& c);
  void extents(Call& c);
  void copy_range(Call& c);
  // --- names.cc
  struct Subject {  // what an attribute operation is about; a regular file can't be freed meanwhile
    Ino ino;
    InodeRef file;
  };
  Subject subject(Call& c, FollowLast last);
  void set_attr(Call& c);
  void link(Call& c);
  void symlink(Call& c);
  void readlink(Call& c);
  void xattr(Call& c);
  void set_quota(Call& c);
  void grow(Call& c);
  void quotas(Call& c);
  void project(Call& c);
  // --- admin.cc
  void statfs(Call& c);
  void clients(Call& c);
  void blocks(Call& c);
  void counters(Call& c);
  void files(Call& c);
  void trace(Call& c);
  void require_admin(const Call& c) const;

  std::shared_ptr<OpenFile> file(Call& c, bool for_writing);
  // By handle, or by path1 if there is one.
  InodeRef target(Call& c, bool for_writing);
  static proto::WireAttr wire(const meta::InodeAttr& a);

  MountedVolume& volume_;
  fault::FaultHandler& faults_;
  Host& host_;
};

}  // namespace pmfs::server
