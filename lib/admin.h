// What the project's own tools ask a manager beyond the public API. Root or the manager's user only, where the
// protocol says so (EPERM otherwise). Throws Error.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/session.h"

#pragma GCC visibility push(default)
namespace pmfs::admin {

std::vector<proto::WireBlock> blocks(Session& session, std::span<const uint64_t> pfns);  // in the order of pfns
proto::WireCounters counters(Session& session);
std::vector<proto::WireFile> files(Session& session, size_t most);  // the busiest first; most <= proto::kMostFiles
std::string trace(Session& session, uint64_t pfn);  // the last operations on a block, oldest first
void shutdown(Session& session);                    // the manager stops cleanly; the session is over

}  // namespace pmfs::admin
#pragma GCC visibility pop
