// Taking a volume over from the manager that serves it.
#pragma once

#include <filesystem>

namespace pmfs::server {

// Asks the running manager to finish what is under way and to end without ending its sessions, and returns when it has let
// go of the volume: mount it then, and its clients come. Throws Error, and the volume is still the other's: ENOENT or
// ECONNREFUSED (nobody serves it), EPERM, ETIMEDOUT (it does not answer, or not end, within `seconds` each), EPROTO.
void take_over(const std::filesystem::path& volume, double seconds);

}  // namespace pmfs::server
