// What mapping.cc and pieces.cc share: the table of this process's mappings, and the steps by which one comes and goes.
//
// Who changes what is mapped at addresses that are mappings already (unmap, protect, remap, map over them) holds
// Table::shape for all of it, waiting for the manager included: nobody the manager or the agent needs ever takes it. A
// mapping at a new address is added without it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "lib/holdings.h"
#include "lib/session.h"
#include "pmfs/base/mutex.h"
#include "pmfs/base/types.h"

namespace pmfs {

struct Record {
  std::byte* addr;
  size_t length;  // bytes, as offset; multiples of Session::map_align()
  uint64_t offset;
  int prot;
  bool may_write;     // the file was open for reading and writing
  bool placed;        // false: a fork's child could not have it back; nothing of ours is at addr
  size_t asked;       // of `length`, the rest is there because mappings are made of whole units: multiple of 4 KiB
  bool fork = true;   // false: a child does not have it (MADV_DONTFORK)
  HeldMap* held = nullptr;
  std::shared_ptr<Session> session;
  std::shared_ptr<Sentinel> sentinel;
  std::byte* end() const { return addr + length; }
};

struct Table {
  Mutex shape{LockRank::kNamespace, "mapping shape"};
  Mutex mutex{LockRank::kSessionMaps, "mapping table"};
  std::map<const std::byte*, Record> by_addr GUARDED_BY(mutex);
};

Table& table();

inline size_t round_up(size_t bytes, size_t align = kBlockSize) { return (bytes + align - 1) & ~(align - 1); }

HeldMap* hold(Session& session, const Record& r);  // inside the gate of the holdings
void drop(Session& session, const Record& r);
// When this returns no manager posts a command for the range any more, now or later. By address: the id is another one
// after the manager has died. Throws Error(ENOTCONN): nobody is there to be told; the mapping is as it was.
void untell_manager(Session& session, const Record& r);
// Ends a mapping that has been taken out of the table. `then` does away with its VMAs when nobody will place one there any
// more. Throws as untell_manager; it is in the table again then.
void end_mapping(Record&& r, void (*then)(const Record&));

// A file opened by number for a while: the mapping that the number is from keeps it. Throws Error(ESTALE).
class OpenByInode {
 public:
  OpenByInode(const std::shared_ptr<Session>& session, uint64_t ino, uint64_t generation, int flags);
  ~OpenByInode();
  OpenByInode(const OpenByInode&) = delete;
  OpenByInode& operator=(const OpenByInode&) = delete;
  uint32_t handle() const { return handle_; }

 private:
  std::shared_ptr<Session> session_;
  uint32_t handle_ = 0;
};

}  // namespace pmfs
