// C API: links, attributes, extended attributes.
#include <algorithm>
#include <cstring>

#include "lib/c_api.h"

using namespace pmfs::c_api;
using pmfs::AttrChange;
using pmfs::fail;
using pmfs::Follow;

namespace {

AttrChange owner(uid_t uid, gid_t gid) {
  AttrChange c;
  if (uid != static_cast<uid_t>(-1)) c.uid = uid;
  if (gid != static_cast<gid_t>(-1)) c.gid = gid;
  return c;
}

std::optional<int64_t> time_of(const timespec& t) {
  constexpr int64_t kSecond = 1'000'000'000;
  if (t.tv_nsec == UTIME_OMIT) return std::nullopt;
  if (t.tv_nsec == UTIME_NOW) return AttrChange::kNow;
  if (t.tv_nsec < 0 || t.tv_nsec >= kSecond) fail(EINVAL, "{} nanoseconds are not part of a second", t.tv_nsec);
  if (t.tv_sec > INT64_MAX / kSecond - 1 || t.tv_sec < INT64_MIN / kSecond + 2) {
    fail(ERANGE, "{} seconds don't fit a time of 64 bits of nanoseconds", t.tv_sec);
  }
  return t.tv_sec * kSecond + t.tv_nsec;
}

AttrChange times_of(const timespec times[2]) {
  AttrChange c;
  c.atime_ns = times == nullptr ? AttrChange::kNow : time_of(times[0]);
  c.mtime_ns = times == nullptr ? AttrChange::kNow : time_of(times[1]);
  return c;
}

int change(pmfs_volume* v, const char* path, const AttrChange& c, Follow last) {
  return on_path(v, path, [&](pmfs::Volume& vol, const char* p) { vol.set_attr(p, c, last); });
}

template <class Make>
int change_fd(int fd, Make&& make) {
  return guarded(-1, [&] {
    fds().get(fd)->set_attr(make());
    return 0;
  });
}

const char* name_or_fail(const char* name) {
  if (name == nullptr) fail(EFAULT, "a null attribute name");
  return name;
}

std::span<const std::byte> value_of(const void* value, size_t n) {
  if (value == nullptr && n > 0) fail(EFAULT, "a null attribute value");
  return {static_cast<const std::byte*>(value), n};
}

ssize_t hand_out(std::span<const std::byte> bytes, void* buf, size_t n) {
  if (n == 0) return static_cast<ssize_t>(bytes.size());
  if (bytes.size() > n) fail(ERANGE, "{} bytes don't fit the buffer of {}", bytes.size(), n);
  if (!bytes.empty()) std::memcpy(buf, bytes.data(), bytes.size());
  return static_cast<ssize_t>(bytes.size());
}

ssize_t hand_out(const std::vector<std::string>& names, void* buf, size_t n) {
  std::string list;
  for (const std::string& name : names) list.append(name.c_str(), name.size() + 1);
  return hand_out(std::as_bytes(std::span(list)), buf, n);
}

// f(volume, path) -> bytes for the caller.
template <class F>
ssize_t get(pmfs_volume* v, const char* path, F&& f) {
  return guarded(ssize_t{-1}, [&] {
    if (v == nullptr) fail(EINVAL, "a null volume");
    return f(v->volume, path_or_fail(path));
  });
}

int set(pmfs_volume* v, const char* path, const char* name, const void* value, size_t n, int flags, Follow last) {
  return on_path(v, path, [&](pmfs::Volume& vol, const char* p) {
    vol.set_xattr(p, name_or_fail(name), value_of(value, n), flags, last);
  });
}

ssize_t get_value(pmfs_volume* v, const char* path, const char* name, void* value, size_t n, Follow last) {
  return get(v, path, [&](pmfs::Volume& vol, const char* p) {
    return hand_out(vol.get_xattr(p, name_or_fail(name), last), value, n);
  });
}

ssize_t get_list(pmfs_volume* v, const char* path, char* list, size_t n, Follow last) {
  return get(v, path, [&](pmfs::Volume& vol, const char* p) { return hand_out(vol.list_xattrs(p, last), list, n); });
}

}  // namespace

extern "C" {

int pmfs_rename2(pmfs_volume* v, const char* from, const char* to, unsigned flags) {
  return on_path(v, from, [&](pmfs::Volume& vol, const char* p) { vol.rename(p, path_or_fail(to), flags); });
}

int pmfs_mknod(pmfs_volume* v, const char* path, mode_t mode) {
  return on_path(v, path, [&](pmfs::Volume& vol, const char* p) { vol.mknod(p, mode); });
}

int pmfs_link(pmfs_volume* v, const char* from, const char* to) {
  return on_path(v, from, [&](pmfs::Volume& vol, const char* p) { vol.link(p, path_or_fail(to)); });
}

int pmfs_symlink(pmfs_volume* v, const char* target, const char* path) {
  return on_path(v, path, [&](pmfs::Volume& vol, const char* p) { vol.symlink(path_or_fail(target), p); });
}

ssize_t pmfs_readlink(pmfs_volume* v, const char* path, char* buf, size_t n) {
  return get(v, path, [&](pmfs::Volume& vol, const char* p) {
    const std::string target = vol.readlink(p);
    const size_t bytes = std::min(n, target.size());
    if (bytes > 0) std::memcpy(buf, target.data(), bytes);
    return static_cast<ssize_t>(bytes);
  });
}

int pmfs_lstat(pmfs_volume* v, const char* path, struct stat* st) {
  return on_path(v, path, [&](pmfs::Volume& vol, const char* p) { fill(vol.stat(p, Follow::kNo), st); });
}

int pmfs_chmod(pmfs_volume* v, const char* path, mode_t mode) {
  return change(v, path, {.mode = mode, .uid = {}, .gid = {}, .atime_ns = {}, .mtime_ns = {}}, Follow::kYes);
}

int pmfs_fchmod(int fd, mode_t mode) {
  return change_fd(fd, [&] { return AttrChange{.mode = mode, .uid = {}, .gid = {}, .atime_ns = {}, .mtime_ns = {}}; });
}

int pmfs_chown(pmfs_volume* v, const char* path, uid_t uid, gid_t gid) {
  return change(v, path, owner(uid, gid), Follow::kYes);
}

int pmfs_lchown(pmfs_volume* v, const char* path, uid_t uid, gid_t gid) {
  return change(v, path, owner(uid, gid), Follow::kNo);
}

int pmfs_fchown(int fd, uid_t uid, gid_t gid) {
  return change_fd(fd, [&] { return owner(uid, gid); });
}

int pmfs_utimens(pmfs_volume* v, const char* path, const struct timespec times[2]) {
  return on_path(v, path, [&](pmfs::Volume& vol, const char* p) { vol.set_attr(p, times_of(times)); });
}

int pmfs_lutimens(pmfs_volume* v, const char* path, const struct timespec times[2]) {
  return on_path(v, path, [&](pmfs::Volume& vol, const char* p) { vol.set_attr(p, times_of(times), Follow::kNo); });
}

int pmfs_futimens(int fd, const struct timespec times[2]) {
  return change_fd(fd, [&] { return times_of(times); });
}

int pmfs_setxattr(pmfs_volume* v, const char* path, const char* name, const void* value, size_t n, int flags) {
  return set(v, path, name, value, n, flags, Follow::kYes);
}

int pmfs_lsetxattr(pmfs_volume* v, const char* path, const char* name, const void* value, size_t n, int flags) {
  return set(v, path, name, value, n, flags, Follow::kNo);
}

int pmfs_fsetxattr(int fd, const char* name, const void* value, size_t n, int flags) {
  return guarded(-1, [&] {
    fds().get(fd)->set_xattr(name_or_fail(name), value_of(value, n), flags);
    return 0;
  });
}

ssize_t pmfs_getxattr(pmfs_volume* v, const char* path, const char* name, void* value, size_t n) {
  return get_value(v, path, name, value, n, Follow::kYes);
}

ssize_t pmfs_lgetxattr(pmfs_volume* v, const char* path, const char* name, void* value, size_t n) {
  return get_value(v, path, name, value, n, Follow::kNo);
}

ssize_t pmfs_fgetxattr(int fd, const char* name, void* value, size_t n) {
  return guarded(ssize_t{-1}, [&] { return hand_out(fds().get(fd)->get_xattr(name_or_fail(name)), value, n); });
}

ssize_t pmfs_listxattr(pmfs_volume* v, const char* path, char* list, size_t n) {
  return get_list(v, path, list, n, Follow::kYes);
}

ssize_t pmfs_llistxattr(pmfs_volume* v, const char* path, char* list, size_t n) {
  return get_list(v, path, list, n, Follow::kNo);
}

ssize_t pmfs_flistxattr(int fd, char* list, size_t n) {
  return guarded(ssize_t{-1}, [&] { return hand_out(fds().get(fd)->list_xattrs(), list, n); });
}

int pmfs_removexattr(pmfs_volume* v, const char* path, const char* name) {
  return on_path(v, path, [&](pmfs::Volume& vol, const char* p) { vol.remove_xattr(p, name_or_fail(name)); });
}

int pmfs_lremovexattr(pmfs_volume* v, const char* path, const char* name) {
  return on_path(v, path,
                 [&](pmfs::Volume& vol, const char* p) { vol.remove_xattr(p, name_or_fail(name), Follow::kNo); });
}

int pmfs_fremovexattr(int fd, const char* name) {
  return guarded(-1, [&] {
    fds().get(fd)->remove_xattr(name_or_fail(name));
    return 0;
  });
}

}  // extern "C"
