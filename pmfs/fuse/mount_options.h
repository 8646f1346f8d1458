// Mount options as mount(8) and /etc/fstab have them: what is the kernel's and libfuse's, what is ours, and what says
// nothing to a mount that is being made.
#pragma once

#include <string>
#include <vector>

namespace pmfs::fuse {

struct MountOptions {
  std::string dir;                   // where; an empty directory, as a rule
  std::vector<std::string> options;  // each one or more, with commas: "allow_other", "ro,max_threads=8", ...
  unsigned threads = 4;              // max_threads=N in `options` has the last word
};

inline constexpr unsigned kMaxThreads = 1024;

// Whether idle processors poll while requests come in trains; kAuto: see halt_poll.h.
enum class HaltPollWhen { kAuto, kAlways, kNever };

struct ParsedOptions {
  std::vector<std::string> fuse;  // for libfuse, which refuses what nobody knows
  unsigned threads = 0;
  HaltPollWhen halt_poll = HaltPollWhen::kAuto;
};

// Throws Error(EINVAL): an option that would make the mount incoherent with native clients (writeback_cache), or that
// pmfs sets itself (fsname, subtype, fd, ...); max_threads that is no number from 1 to kMaxThreads; halt_poll that is not
// auto, always or never.
ParsedOptions parse(const MountOptions& o);

}  // namespace pmfs::fuse
