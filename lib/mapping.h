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

// offset: a multiple of 4 KiB; length > 0 (rounded up). Throws Error.
std::byte* map_file(const std::shared_ptr<Session>& session, uint32_t handle, uint64_t offset, size_t length, int prot);

// Exactly a range that map_file returned (length: as given there, or rounded up). Throws Error(EINVAL) if it isn't.
void unmap_range(const void* addr, size_t length);

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
