// The table of this process's mappings: what is mapped where, from which session. Also what fork() rebuilds in the
// child. Addresses are bytes; lengths are multiples of 4 KiB.
//
//   a range    | in the table | manager knows it | VMA
//   map()      | after kMap   | kMap             | reserved before kMap: sentinel, registered
//   unmap()    | taken out first, so that only one thread does the rest; then kUnmap; then munmap
//   fork child | yes          | after kMap of the restore | PROT_NONE until restored (for ever, if that fails)
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "pmfs/base/unique_fd.h"
#include "pmfs/pmfs.hpp"
#include "pmfs/proto/protocol.h"

namespace pmfs {

struct Place {
  enum Kind : uint8_t {
    kAnywhere,  // at: a wish, or null
    kFree,      // exactly at; EEXIST: something is there
    kReplace,   // exactly at, instead of what is there, which the caller has seen to (release_range). A thread that touches
                // the range in the middle of that gets SIGSEGV
  };
  Kind kind = kAnywhere;
  std::byte* at = nullptr;
};
struct MapOptions {
  int prot = 0;            // PROT_READ, PROT_WRITE, or none
  bool may_write = false;  // the file is open for reading and writing: protect_range may allow stores
  Place place = {};
};
// offset: a multiple of Session::map_align(); length > 0 (rounded up to that). Throws Error: EINVAL, EOVERFLOW, EACCES (protection), EEXIST, ENOMEM.
std::byte* map_file(const std::shared_ptr<Session>& session, uint32_t handle, uint64_t offset, size_t length,
                    const MapOptions& o);

// Throws Error(EINVAL) for what can't be mapped at such a place because mappings are made of whole units; to be asked before
// what is there is done away with.
void check_place(const Session& session, uint64_t offset, size_t length, const Place& place);

// fork(), in the child, single-threaded.
void reserve_inherited_ranges();
// Maps again what this process had mapped of the session. Returns the handles that the manager named.
std::vector<uint32_t> restore_mappings(Session& session);
bool all_restored(const Session& session);
// Hands each mapping of the session to `tell`, which returns its file's sentinel, or none: the file is gone.
void name_mappings(Session& session, const std::function<UniqueFd(proto::ReattachMap&)>& tell);
// Makes all ranges of the session inaccessible again. The agent must be at an end.
void disown_mappings(Session& session);

}  // namespace pmfs
