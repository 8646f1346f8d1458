// PMFS_LOG=warn in the environment: a line on standard error for each call that is refused here.
#pragma once

namespace pmfs::preload {

// Keeps errno. No malloc, no stdio buffers: the caller may be anywhere.
[[gnu::format(printf, 1, 2)]] void warn(const char* format, ...);

}  // namespace pmfs::preload
