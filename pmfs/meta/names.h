// What every operation on names checks, shared by the store's files.
#pragma once

#include <sys/stat.h>

#include <string_view>
#include <utility>

#include "pmfs/meta/directory.h"
#include "pmfs/meta/store.h"

namespace pmfs::meta {

inline void check_name(std::string_view name) {
  if (name.size() > kMaxName) fail(ENAMETOOLONG, "a name of {} bytes: {} is the most", name.size(), kMaxName);
  if (name.empty() || name == "." || name == ".." || name.find('/') != name.npos || name.find('\0') != name.npos) {
    fail(EINVAL, "\"{}\" is not a name for a file", name);
  }
}

// Whose attribute it is. Throws Error (ERANGE, EINVAL, EOPNOTSUPP) for what can be no attribute's name.
enum class XattrPrefix : uint8_t { kUser, kSecurity, kTrusted };

inline XattrPrefix check_xattr_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxXattrName) {
    fail(ERANGE, "an attribute name of {} bytes: there must be 1 to {}", name.size(), kMaxXattrName);
  }
  if (name.find('\0') != name.npos) fail(EINVAL, "an attribute name with a NUL byte");
  for (auto [text, prefix] : {std::pair<std::string_view, XattrPrefix>{"user.", XattrPrefix::kUser},
                               {"security.", XattrPrefix::kSecurity},
                               {"trusted.", XattrPrefix::kTrusted}}) {
    if (!name.starts_with(text)) continue;
    if (name.size() == text.size()) fail(EINVAL, "{}: an attribute without a name of its own", name);
    return prefix;
  }
  fail(EOPNOTSUPP, "{}: an attribute's name must begin with user., security. or trusted.", name);
}

inline bool is_dir(const InodeMedia* i) { return S_ISDIR(i->mode); }

inline void touch(InodeMedia* i, int64_t now) { i->mtime_ns = i->ctime_ns = now; }

// A directory that rmdir took away takes no new names.
inline void check_alive(const InodeMedia* dir, Ino ino) {
  if (dir->state != InodeMedia::kLive) fail(ENOENT, "directory {} has been removed", to_u64(ino));
}

// In a sticky directory a name is taken away only by its file's owner or the directory's.
inline void check_sticky(const InodeMedia* dir, const InodeMedia* i, std::string_view name, const Credentials& who) {
  if ((dir->mode & S_ISVTX) == 0 || who.owns(dir->uid) || who.owns(i->uid)) return;
  fail(EPERM, "{}: the directory is sticky, and neither it nor the file is user {}'s", name, who.uid);
}

// What a directory hands its project on to is all of that project.
inline void check_project(const InodeMedia* dir, const InodeMedia* i, std::string_view name) {
  if ((dir->flags & InodeMedia::kProjectInherit) == 0 || dir->project == i->project) return;
  fail(EXDEV, "{}: the directory is of project {}, the file of project {}; copy it", name, dir->project, i->project);
}

inline void check_link_count(const InodeMedia* i, std::string_view name) {
  if (i->nlink >= kMaxLinks) fail(EMLINK, "{}: {} links are the most an inode can have", name, kMaxLinks);
}

}  // namespace pmfs::meta
